"""What can be known of an image: one module for each type of label, and what all of them can do."""
