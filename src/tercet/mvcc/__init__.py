"""What the log means for keys and values: revisions, ranges, transactions, compaction, hashes.

`Store` applies requests and answers reads over any storage Backend, in slices where they are large (work.py). `check` and
`txn_check` refuse malformed requests before they are proposed. No I/O, clock or knowledge of other members.
"""

from tercet.mvcc.check import (
    check_delete,
    check_put,
    check_range,
    check_range_stream,
    is_read_only,
)
from tercet.mvcc.counts import Counts
from tercet.mvcc.hash import CompactionHashes, KVHash, hash_all, hash_kv
from tercet.mvcc.loading import Loaded, last_compaction
from tercet.mvcc.put_search import PutCost, PutSearch
from tercet.mvcc.small_requests import (
    SmallPut,
    SmallRange,
    SmallRequest,
    SmallTxn,
    read_small_put,
    read_small_range,
    read_small_txn,
)
from tercet.mvcc.store import Store
from tercet.mvcc.txn_check import TxnCheck, check_txn
from tercet.mvcc.watch import NO_DELETE, NO_PUT, PREV_KV, Batch, Receiver, Watch, WatchStream
from tercet.mvcc.watch_hub import WatchHub, WatchRefused
from tercet.mvcc.work import Answer, Apply, Budget, Steps, whole_answer, whole_apply
from tercet.mvcc.write_txn import Leases

__all__ = [
    "NO_DELETE",
    "NO_PUT",
    "PREV_KV",
    "Answer",
    "Apply",
    "Batch",
    "Budget",
    "CompactionHashes",
    "Counts",
    "KVHash",
    "Leases",
    "Loaded",
    "PutCost",
    "PutSearch",
    "Receiver",
    "SmallPut",
    "SmallRange",
    "SmallRequest",
    "SmallTxn",
    "Steps",
    "Store",
    "TxnCheck",
    "Watch",
    "WatchHub",
    "WatchRefused",
    "WatchStream",
    "check_delete",
    "check_put",
    "check_range",
    "check_range_stream",
    "check_txn",
    "hash_all",
    "hash_kv",
    "is_read_only",
    "last_compaction",
    "read_small_put",
    "read_small_range",
    "read_small_txn",
    "whole_answer",
    "whole_apply",
]
