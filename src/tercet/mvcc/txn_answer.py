"""The response to a Txn: what its operations returned, and the reads that are still to be made, in slices.

The reads of a write txn are made after it was applied, at the point in history where they stand in it, and only where a client
waits: a small request can have a large answer, and other members should not pay for it. Also what can be told of other
operations afterwards is left to the answer, so that the next request of the log need not wait for it.
"""

from __future__ import annotations

from typing import Final

from tercet.mvcc.compare import Plan
from tercet.mvcc.pieces import Pieces
from tercet.mvcc.range_read import RangeRead
from tercet.mvcc.read_txn import ReadTxn
from tercet.mvcc.work import BYTES_SHIFT, OPERATION, Answer, Budget
from tercet.proto import rpc_pb2
from tercet.proto.wire import paste_field, varint

_SUCCEEDED: Final = b"\x10\x01"
_EMPTY_HEADER: Final = b"\n\0"  # a nested response has a header with nothing in it
_RESPONSES: Final = 3
RANGE, PUT, DELETE, TXN = 1, 2, 3, 4  # numbers in ResponseOp


class OpResult:
    """What one operation returned: its number in ResponseOp, its own header, and its body or the read that makes it."""

    __slots__ = ("body", "header", "number", "read")

    def __init__(self, number: int, header: bytes, body: bytes, read: Answer | None = None) -> None:
        self.number = number
        self.header = header
        self.body = body
        self.read = read


class _Frame:
    """A txn whose response is being put together."""

    __slots__ = ("pieces", "plan", "position", "size")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.position = 0
        self.pieces = Pieces()
        self.size = 0
        if plan.succeeded:
            self.add(_SUCCEEDED)

    def add(self, piece: bytes) -> None:
        self.pieces.add(piece)
        self.size += len(piece)

    def add_op(self, number: int, header: bytes, parts: list[bytes], size: int) -> None:
        """A ResponseOp with a response of `size` bytes, beside its header."""
        size += len(header)
        inner = bytes((number << 3 | 2,)) + varint(size)
        outer = bytes((_RESPONSES << 3 | 2,)) + varint(len(inner) + size)
        self.add(outer + inner + header)
        for part in parts:
            self.add(part)


class TxnAnswer(Answer):
    """A TxnResponse.

    results: of all operations, those of nested txns in their place. A Put that returns nothing, or a Range that knows its count
    when it has read all of its keys, is only told how many of the txn's writes it sees, its own among them.
    """

    __slots__ = ("_before", "_frames", "_next", "_oldest", "_result", "_results", "_size")

    def __init__(self, oldest: ReadTxn, before: ReadTxn, plan: Plan, results: list[OpResult | int]) -> None:
        """oldest: of the points in history that its reads are made at; before: the one before its writes."""
        self._oldest = oldest
        self._before = before
        self._frames = [_Frame(plan)]
        self._results = results
        self._result: OpResult | None = None  # the one that is being read
        self._next = 0
        self._size = 0
        self.parts = []

    @property
    def size_bytes(self) -> int:
        result = self._result
        read = None if result is None else result.read
        return self._size + (0 if read is None else read.size_bytes)

    def pin(self) -> None:
        self._oldest.pin()

    def unpin(self) -> None:
        self._oldest.unpin()

    def discard(self, budget: Budget) -> bool:
        read = None if self._result is None else self._result.read
        return read is not None and read.discard(budget)

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        frames = self._frames
        while True:
            frame = frames[-1]
            if frame.position == len(frame.plan.steps):
                frames.pop()
                frame.pieces.join()
                parts = frame.pieces.parts
                if not frames:
                    self.parts = parts
                    return False
                budget.left -= (len(parts) >> 4) + (frame.size >> BYTES_SHIFT if len(parts) == 1 else 0)
                frames[-1].add_op(TXN, _EMPTY_HEADER, parts, frame.size)
                frames[-1].position += 1
                continue
            step = frame.plan.steps[frame.position]
            if isinstance(step, Plan):
                frames.append(_Frame(step))
                continue
            if budget.left <= 0:
                return True
            result = self._result
            if result is None:
                result = self._result = self._begin(step, self._results[self._next])
            read = result.read
            if read is not None and read.step(budget):
                return True
            budget.left -= OPERATION
            if result.number:
                parts = [result.body] if read is None else read.parts
                size = len(result.body) if read is None else sum(map(len, parts))
                frame.add_op(result.number, result.header, parts, size)
                self._size += size
            else:
                frame.add(b"\x1a\0")  # an operation without a kind is refused when proposed, but a log may hold one
            self._results[self._next] = 0  # its memory is free
            self._result = None
            self._next += 1
            frame.position += 1

    def _begin(self, op: rpc_pb2.RequestOp, noted: OpResult | int) -> OpResult:
        if isinstance(noted, OpResult):
            return noted
        before = self._before
        header = op_header(before.revision + 1 if noted else before.revision)
        if not op.HasField("request_range"):
            return OpResult(PUT, header, b"")
        request = op.request_range
        txn = before.at(request.revision) if request.revision > 0 else before.within(noted)
        return OpResult(RANGE, header, b"", RangeRead(txn, request))


def op_header(revision: int) -> bytes:
    """Of an operation's response: only the revision, which is the new one from the first write on."""
    return paste_field(1, b"\x18" + varint(revision))
