"""The client: `AsyncClient` with typed results on `ClusterChannel`, which takes and returns protobuf messages."""

from typing import TYPE_CHECKING

from tercet.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from tercet.client import methods
    from tercet.client.async_client import (
        AsyncClient,
    )
    from tercet.client.cluster_channel import (
        ClusterChannel,
    )
    from tercet.client.connector import (
        Limits,
    )
    from tercet.client.election import (
        observe,
    )
    from tercet.client.endpoint import (
        Endpoint,
        parse_endpoint,
    )
    from tercet.client.errors import (
        AlreadyExists,
        ClientClosed,
        Compacted,
        ConfigurationError,
        Corrupt,
        FailedPrecondition,
        ForkedError,
        FutureRevision,
        Indeterminate,
        InvalidArgument,
        LeaseExists,
        LeaseLost,
        LeaseNotFound,
        LockLost,
        NoLeader,
        NoSpace,
        NotFound,
        PermissionDenied,
        Rewound,
        TercetError,
        Timeout,
        TooLarge,
        TooManyRequests,
        Unauthenticated,
        Unavailable,
    )
    from tercet.client.health import (
        Health,
        check_health,
    )
    from tercet.client.keepalive import (
        keep_alive,
        keep_alive_once,
    )
    from tercet.client.lease import (
        Lease,
    )
    from tercet.client.lease_session import (
        LeaseSession,
    )
    from tercet.client.login import (
        AuthenticationError,
    )
    from tercet.client.prefix import (
        prefix_end,
    )
    from tercet.client.queue import (
        Place,
    )
    from tercet.client.recipes.barrier import (
        Barrier,
        DoubleBarrier,
    )
    from tercet.client.recipes.cache import (
        Cache,
    )
    from tercet.client.recipes.counter import (
        Counter,
    )
    from tercet.client.recipes.election import (
        Election,
    )
    from tercet.client.recipes.lock import (
        Lock,
    )
    from tercet.client.recipes.partitioner import (
        Partitioner,
        Share,
    )
    from tercet.client.recipes.party import (
        Party,
    )
    from tercet.client.recipes.queue import (
        PriorityQueue,
        Queue,
    )
    from tercet.client.recipes.rw_lock import (
        RWLock,
    )
    from tercet.client.recipes.semaphore import (
        Semaphore,
    )
    from tercet.client.recipes.stm import (
        STM,
    )
    from tercet.client.results import (
        KV,
        Delete,
        Header,
        Put,
        Range,
        Txn,
    )
    from tercet.client.retry import (
        Retry,
    )
    from tercet.client.sync.async_client import (
        Client,
    )
    from tercet.client.tls import (
        TLSFiles,
    )
    from tercet.client.watch import (
        Watch,
        WatchStream,
    )
    from tercet.client.watch_events import (
        Event,
        WatchBatch,
    )
    from tercet.client.watch_list import (
        ListBatch,
    )
    from tercet.client.watcher import (
        Watcher,
    )

__all__ = [
    "KV",
    "STM",
    "AlreadyExists",
    "AsyncClient",
    "AuthenticationError",
    "Barrier",
    "Cache",
    "Client",
    "ClientClosed",
    "ClusterChannel",
    "Compacted",
    "ConfigurationError",
    "Corrupt",
    "Counter",
    "Delete",
    "DoubleBarrier",
    "Election",
    "Endpoint",
    "Event",
    "FailedPrecondition",
    "ForkedError",
    "FutureRevision",
    "Header",
    "Health",
    "Indeterminate",
    "InvalidArgument",
    "Lease",
    "LeaseExists",
    "LeaseLost",
    "LeaseNotFound",
    "LeaseSession",
    "Limits",
    "ListBatch",
    "Lock",
    "LockLost",
    "NoLeader",
    "NoSpace",
    "NotFound",
    "Partitioner",
    "Party",
    "PermissionDenied",
    "Place",
    "PriorityQueue",
    "Put",
    "Queue",
    "RWLock",
    "Range",
    "Retry",
    "Rewound",
    "Semaphore",
    "Share",
    "TLSFiles",
    "TercetError",
    "Timeout",
    "TooLarge",
    "TooManyRequests",
    "Txn",
    "Unauthenticated",
    "Unavailable",
    "Watch",
    "WatchBatch",
    "WatchStream",
    "Watcher",
    "check_health",
    "keep_alive",
    "keep_alive_once",
    "methods",
    "observe",
    "parse_endpoint",
    "prefix_end",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "async_client": ("AsyncClient",),
        "cluster_channel": ("ClusterChannel",),
        "connector": ("Limits",),
        "election": ("observe",),
        "endpoint": ("Endpoint", "parse_endpoint"),
        "errors": (
            "AlreadyExists",
            "ClientClosed",
            "Compacted",
            "ConfigurationError",
            "Corrupt",
            "FailedPrecondition",
            "ForkedError",
            "FutureRevision",
            "Indeterminate",
            "InvalidArgument",
            "LeaseExists",
            "LeaseLost",
            "LeaseNotFound",
            "LockLost",
            "NoLeader",
            "NoSpace",
            "NotFound",
            "PermissionDenied",
            "Rewound",
            "TercetError",
            "Timeout",
            "TooLarge",
            "TooManyRequests",
            "Unauthenticated",
            "Unavailable",
        ),
        "health": ("Health", "check_health"),
        "keepalive": ("keep_alive", "keep_alive_once"),
        "lease": ("Lease",),
        "lease_session": ("LeaseSession",),
        "login": ("AuthenticationError",),
        "prefix": ("prefix_end",),
        "queue": ("Place",),
        "recipes.barrier": (
            "Barrier",
            "DoubleBarrier",
        ),
        "recipes.cache": ("Cache",),
        "recipes.counter": ("Counter",),
        "recipes.election": ("Election",),
        "recipes.lock": ("Lock",),
        "recipes.partitioner": (
            "Partitioner",
            "Share",
        ),
        "recipes.party": ("Party",),
        "recipes.queue": (
            "PriorityQueue",
            "Queue",
        ),
        "recipes.rw_lock": ("RWLock",),
        "recipes.semaphore": ("Semaphore",),
        "recipes.stm": ("STM",),
        "results": ("KV", "Delete", "Header", "Put", "Range", "Txn"),
        "retry": ("Retry",),
        "sync.async_client": ("Client",),
        "tls": ("TLSFiles",),
        "watch": ("Watch", "WatchStream"),
        "watch_events": (
            "Event",
            "WatchBatch",
        ),
        "watch_list": ("ListBatch",),
        "watcher": ("Watcher",),
    },
)
