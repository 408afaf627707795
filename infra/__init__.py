"""What runs the program: images, manifests, clusters, and a cluster on this machine."""
