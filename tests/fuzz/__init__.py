"""Bytes of strangers, by the million (`make fuzz`): each target takes any, and lets only declared errors through."""
