"""HTTP/1.1 over h11: a client and a server for peers, and a server for health checks and metrics."""
