"""What the claims about speed rest on: each module prints numbers that docs/benchmarks.md holds."""
