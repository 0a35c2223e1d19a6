"""The road as Python functions: what the commands call, and what `import nanocv_cli` offers."""
