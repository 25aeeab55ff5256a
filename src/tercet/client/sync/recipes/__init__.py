"""The synchronous recipes, generated."""
