"""Operations of this member since its start, counted as etcd's metrics count them (server/storage/mvcc/metrics_txn.go): a Put
or DeleteRange that returns the previous KeyValue counts as a Range too.

Never part of the replicated state: members that were started at different times differ here and nowhere else.
"""

from __future__ import annotations


class Counts:
    """Operations, also those inside transactions; a transaction counts as one only if it has more than one operation."""

    __slots__ = ("compacted", "deletes", "put_bytes", "puts", "ranges", "txns")

    def __init__(self) -> None:
        self.puts = 0
        self.put_bytes = 0
        self.deletes = 0
        self.ranges = 0
        self.txns = 0
        self.compacted = 0  # revisions removed by compactions

    @property
    def operations(self) -> int:
        return self.puts + self.deletes + self.ranges
