"""Metrics of a member in Prometheus' text format, with etcd's names."""
