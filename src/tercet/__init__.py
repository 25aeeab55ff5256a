"""tercet: etcd in Python. A replicated key-value store that etcd's clients, flags and habits work with unchanged.

`import tercet` loads nothing else: the names below are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tercet.client import (
        KV,
        STM,
        AlreadyExists,
        AsyncClient,
        Barrier,
        Cache,
        Client,
        ClientClosed,
        Compacted,
        ConfigurationError,
        Corrupt,
        Counter,
        Delete,
        DoubleBarrier,
        Election,
        Event,
        FailedPrecondition,
        ForkedError,
        FutureRevision,
        Header,
        Indeterminate,
        InvalidArgument,
        Lease,
        LeaseExists,
        LeaseLost,
        LeaseNotFound,
        ListBatch,
        Lock,
        LockLost,
        NoLeader,
        NoSpace,
        NotFound,
        Partitioner,
        Party,
        PermissionDenied,
        PriorityQueue,
        Put,
        Queue,
        Range,
        Retry,
        Rewound,
        RWLock,
        Semaphore,
        Share,
        TercetError,
        Timeout,
        TLSFiles,
        TooLarge,
        TooManyRequests,
        Txn,
        Unauthenticated,
        Unavailable,
        WatchBatch,
        Watcher,
    )
    from tercet.embed.cluster import Cluster
    from tercet.embed.process import ServerProcess
    from tercet.embed.server import Server

__version__ = "0.1.0"

__all__ = [
    "KV",
    "STM",
    "AlreadyExists",
    "AsyncClient",
    "Barrier",
    "Cache",
    "Client",
    "ClientClosed",
    "Cluster",
    "Compacted",
    "ConfigurationError",
    "Corrupt",
    "Counter",
    "Delete",
    "DoubleBarrier",
    "Election",
    "Event",
    "FailedPrecondition",
    "ForkedError",
    "FutureRevision",
    "Header",
    "Indeterminate",
    "InvalidArgument",
    "Lease",
    "LeaseExists",
    "LeaseLost",
    "LeaseNotFound",
    "ListBatch",
    "Lock",
    "LockLost",
    "NoLeader",
    "NoSpace",
    "NotFound",
    "Partitioner",
    "Party",
    "PermissionDenied",
    "PriorityQueue",
    "Put",
    "Queue",
    "RWLock",
    "Range",
    "Retry",
    "Rewound",
    "Semaphore",
    "Server",
    "ServerProcess",
    "Share",
    "TLSFiles",
    "TercetError",
    "Timeout",
    "TooLarge",
    "TooManyRequests",
    "Txn",
    "Unauthenticated",
    "Unavailable",
    "WatchBatch",
    "Watcher",
]
_MODULES: dict[str, str] = {
    "Cluster": "tercet.embed.cluster",
    "Server": "tercet.embed.server",
    "ServerProcess": "tercet.embed.process",
}
"""Where the names are that are not in `tercet.client`."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(_MODULES.get(name, "tercet.client"))
    except ModuleNotFoundError as error:
        if name not in _MODULES:
            raise
        raise ImportError(f"tercet.{name} needs the distribution tercet; tercet-client is the client alone") from error
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
