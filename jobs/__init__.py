"""One thin command each: parse, call a pipeline, print the result."""
