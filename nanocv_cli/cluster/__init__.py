"""Many images answered by the machines of a Ray cluster, in files that are whole or not there. No torch."""
