"""python-etcd3's client on tercet's transport: `import tercet.compat.etcd3 as etcd3`.

The surface is that of its master branch, a superset of 0.12.0. It needs neither grpcio nor a certain protobuf, and may share a
process with the original. What differs is in docs/compat-clients.md.
"""

from tercet.compat.etcd3 import etcdrpc
from tercet.compat.etcd3.client import Endpoint, Etcd3Client, MultiEndpointEtcd3Client, Transactions, client
from tercet.compat.etcd3.exceptions import Etcd3Exception
from tercet.compat.etcd3.leases import Lease
from tercet.compat.etcd3.locks import Lock
from tercet.compat.etcd3.members import Member

__version__ = "0.12.0"

__all__ = [
    "Endpoint",
    "Etcd3Client",
    "Etcd3Exception",
    "Lease",
    "Lock",
    "Member",
    "MultiEndpointEtcd3Client",
    "Transactions",
    "client",
    "etcdrpc",
]
