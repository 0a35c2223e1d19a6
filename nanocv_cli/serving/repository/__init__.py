"""Triton model repositories: what a graph needs around it to be served."""
