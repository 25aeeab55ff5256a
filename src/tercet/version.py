"""Which etcd does this member say it is?

Clients and tools enable features by the etcd version a server reports, so the level of the API we speak is one constant,
apart from tercet's own version in `tercet.__version__`.
"""

ETCD_VERSION = "3.7.1"
MIN_CLUSTER_VERSION = "3.0.0"
