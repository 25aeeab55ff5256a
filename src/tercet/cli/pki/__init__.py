"""The `tercet pki` command."""
