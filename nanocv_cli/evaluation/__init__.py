"""One split, a model, the task's metrics: what `nanocv eval` and every training measure with."""
