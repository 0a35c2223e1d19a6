"""Triton model repositories and the servers that run them: no torch."""
