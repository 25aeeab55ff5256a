"""`tercet up`: a cluster with TLS on this host."""
