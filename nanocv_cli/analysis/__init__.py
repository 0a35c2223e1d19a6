"""Where a model's arithmetic and bytes are spent, and what a device makes of them."""
