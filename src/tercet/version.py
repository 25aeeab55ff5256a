"""Which etcd does this member say it is?

Clients and tools enable features by the etcd version a server reports, so the level of the API we speak is one constant,
apart from tercet's own version in `tercet.__version__`.
"""

ETCD_VERSION = "3.7.1"
MIN_CLUSTER_VERSION = "3.0.0"


def is_compiled() -> bool:
    """Does the core run compiled, or as the sources it was written in? Both are meant to do the same."""
    from tercet.raft import log

    return not str(log.__file__).endswith(".py")
