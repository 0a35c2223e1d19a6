"""A model as a folder for any static host: the page, and what runs the graph in a browser. No torch."""
