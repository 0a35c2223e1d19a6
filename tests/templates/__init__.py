"""Smallest examples of what CONTRIBUTING.md says how to add; `test_extending.py` adds them to a copy of nanocv."""
