"""One page that tells a model's story: what was asked, learnt and measured, and what it costs."""
