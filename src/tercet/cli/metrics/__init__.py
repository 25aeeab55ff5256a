"""`tercet metrics`: Prometheus rules and a Grafana dashboard for the metrics of tercet and of etcd."""
