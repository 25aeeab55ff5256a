"""TLS of a member: certificate files, contexts of listeners and dialers, verification of peers, expiry."""
