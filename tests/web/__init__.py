"""Models as folders for a static host."""
