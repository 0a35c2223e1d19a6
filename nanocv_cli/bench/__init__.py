"""Load generation and statistics: how fast a served or a loaded model answers. No torch."""
