"""A cluster on this machine, with a real S3 server."""
