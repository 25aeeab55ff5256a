"""aetcd's client on tercet's transport: `import tercet.compat.aetcd as aetcd`.

It needs neither grpcio nor a certain protobuf, and may share a process with the original. What differs is in
docs/compat-clients.md.
"""

from tercet.compat.aetcd import rpc, utils
from tercet.compat.aetcd.client import Alarm, Client, Status, Transactions
from tercet.compat.aetcd.exceptions import (
    ClientError,
    ConnectionFailedError,
    ConnectionTimeoutError,
    DuplicateLeaseError,
    InternalError,
    InvalidArgumentError,
    PreconditionFailedError,
    RevisionCompactedError,
    UnauthenticatedError,
    WatchTimeoutError,
)
from tercet.compat.aetcd.leases import Lease
from tercet.compat.aetcd.locks import Lock
from tercet.compat.aetcd.members import Member
from tercet.compat.aetcd.rtypes import (
    Delete,
    DeleteRange,
    Event,
    EventKind,
    Get,
    GetRange,
    KeyValue,
    Put,
    ResponseHeader,
    Watch,
)
from tercet.compat.aetcd.watcher import Watcher, WatcherCallback

__all__ = [
    "Alarm",
    "Client",
    "ClientError",
    "ConnectionFailedError",
    "ConnectionTimeoutError",
    "Delete",
    "DeleteRange",
    "DuplicateLeaseError",
    "Event",
    "EventKind",
    "Get",
    "GetRange",
    "InternalError",
    "InvalidArgumentError",
    "KeyValue",
    "Lease",
    "Lock",
    "Member",
    "PreconditionFailedError",
    "Put",
    "ResponseHeader",
    "RevisionCompactedError",
    "Status",
    "Transactions",
    "UnauthenticatedError",
    "Watch",
    "WatchTimeoutError",
    "Watcher",
    "WatcherCallback",
    "rpc",
    "utils",
]
