"""The main job: images of a bucket -> tables of what is on them."""
