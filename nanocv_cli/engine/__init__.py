"""What opens and runs a model: card, signature, references, the graph. No torch."""
