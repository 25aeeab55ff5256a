"""The metrics of a member in Prometheus' text format, under etcd's names."""
