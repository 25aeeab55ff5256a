"""The KeyValues that a Put or a DeleteRange replaced, read after the request was applied."""

from __future__ import annotations

from tercet.mvcc.encoding import REVISION_BYTES
from tercet.mvcc.pieces import Pieces
from tercet.mvcc.read_txn import ReadTxn
from tercet.mvcc.work import BYTES_SHIFT, FETCH, Answer, Budget
from tercet.proto.wire import varint


class StoredKvs(Answer):
    """KeyValues whose revision keys are known."""

    __slots__ = ("_at", "_pieces", "_revision_keys", "_size", "_tag", "_txn")

    def __init__(self, txn: ReadTxn, revision_keys: bytes | bytearray, number: int, head: bytes = b"") -> None:
        """number: of the field that they go into, < 16; head: the encoded fields before them."""
        self._txn = txn
        self._revision_keys = revision_keys
        self._tag = bytes((number << 3 | 2,))
        self._at = 0
        self._size = 0
        self._pieces = Pieces()
        self._pieces.add(head)
        self.parts = []

    @property
    def size_bytes(self) -> int:
        return self._size

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        total = len(self._revision_keys)
        while self._at < total:
            if budget.left <= 0:
                return True
            kv = self._txn.fetch(bytes(self._revision_keys[self._at : self._at + REVISION_BYTES]))
            self._at += REVISION_BYTES
            self._pieces.add(self._tag + varint(len(kv)))
            self._pieces.add(kv)
            self._size += len(kv)
            budget.left -= FETCH + (len(kv) >> BYTES_SHIFT)
        self._pieces.join()
        self.parts = self._pieces.parts
        return False

    def pin(self) -> None:
        self._txn.pin()

    def unpin(self) -> None:
        self._txn.unpin()
