"""tercet: etcd in Python. A replicated key-value store that etcd's clients, flags and habits work with unchanged."""

__version__ = "0.1.0"
