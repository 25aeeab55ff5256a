"""The `tercet deploy` command."""
