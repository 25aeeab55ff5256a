"""HTTP/1.1 over h11: a server and a client for a few requests at a time, without TLS or routing of their own."""
