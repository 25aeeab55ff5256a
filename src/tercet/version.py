"""The etcd version that this member reports.

Clients and tools enable features by it. tercet's own version is `tercet.__version__`.
"""

from tercet import errors

ETCD_VERSION = "3.7.3"
MIN_CLUSTER_VERSION = "3.0.0"


def is_compiled() -> bool:
    """Whether the core runs as compiled modules rather than as Python sources."""
    return not str(errors.__file__).endswith(".py")  # the compiled modules are built together or not at all
