"""Applies around that of a Txn: what must be known of all its operations is found out in slices.

`LargeTxn` parses one that this member has not proposed. `TxnWithoutSpace` refuses puts under the NOSPACE alarm. `MeasuredTxn`
finds out whether one needs more space than this member has. `PermittedTxn` checks its user's permissions. `EmptyRangeCheck`
prepares a check of permissions, of other requests as well.
"""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import DecodeError

from tercet.auth import Identity
from tercet.errors import NO_SPACE
from tercet.mvcc import Answer, Apply, Budget, PutCost, PutSearch
from tercet.replica.empty_ranges import TreeGrowth
from tercet.replica.quota import KEY_OVERHEAD_BYTES
from tercet.replica.requests import AppliedRequest, unreadable
from tercet.replica.txn_parser import TxnParser
from tercet.replica.txn_permissions import TxnPermissions

Handler = Callable[[AppliedRequest], bytes | Apply]


class HandledApply(Apply):
    """What a handler does once something else is done."""

    __slots__ = ("_handler", "_request", "_result")

    def __init__(self, request: AppliedRequest, handler: Handler) -> None:
        self.is_awaited = False
        self._request = request
        self._handler = handler
        self._result: bytes | Apply | None = None

    def step_handler(self, budget: Budget) -> bool:
        """Begin, or go on. Returns whether there is more to do."""
        result = self._result
        if result is None:
            result = self._result = self._handler(self._request)
        if isinstance(result, Apply):
            result.is_awaited = self.is_awaited
            return result.step(budget)
        return False

    def outcome(self) -> bytes | Answer:
        result = self._result
        return result.outcome() if isinstance(result, Apply) else result or b""


class LargeTxn(HandledApply):
    """`request` gets its message from the first steps, which do nothing else."""

    __slots__ = ("_data", "_parser", "request")

    def __init__(self, data: bytes, content: memoryview, identity: Identity, handler: Handler) -> None:
        """data: of the entry; content: the encoded Txn in it."""
        self.request = AppliedRequest("txn", None, identity)
        super().__init__(self.request, handler)
        self._data = data
        self._parser: TxnParser | None = TxnParser(content)

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`. Raises UnsupportedRequest for what is no Txn."""
        parser = self._parser
        if parser is not None:
            try:
                if parser.step(budget):
                    return True
            except DecodeError as error:
                raise unreadable(self._data) from error
            self.request.message = parser.request
            self._parser = None
            return True
        return self.step_handler(budget)


class TxnWithoutSpace(HandledApply):
    """Raises NO_SPACE for a Txn with a Put."""

    __slots__ = ("_search",)

    def __init__(self, request: AppliedRequest, handler: Handler) -> None:
        super().__init__(request, handler)
        self._search: PutSearch | None = PutSearch(request.message)

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        search = self._search
        if search is not None:
            if search.step(budget):
                return True
            if search.found:
                raise NO_SPACE
            self._search = None
        return self.step_handler(budget)


class PermittedTxn(HandledApply):
    """Raises what the check of permissions raises."""

    __slots__ = ("_is_permitted", "_permissions")

    def __init__(self, request: AppliedRequest, permissions: TxnPermissions, handler: Handler) -> None:
        super().__init__(request, handler)
        self._permissions = permissions
        self._is_permitted = False

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        if not self._is_permitted:
            if self._permissions.step(budget):
                return True
            self._is_permitted = True
        return self.step_handler(budget)


class EmptyRangeCheck(HandledApply):
    """A request on a range without keys, whose check must be prepared."""

    __slots__ = ("_growth",)

    def __init__(self, request: AppliedRequest, growth: TreeGrowth, handler: Handler) -> None:
        super().__init__(request, handler)
        self._growth: TreeGrowth | None = growth

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        growth = self._growth
        if growth is not None:
            if growth.step(budget):
                return True
            self._growth = None
        return self.step_handler(budget)


class MeasuredTxn(Apply):
    """needs_space: the Txn needs more than `room` bytes. It is measured first: once it is applied its revision is seen, and the
    applied index must not stay behind.
    """

    __slots__ = ("_costs", "_request", "_room", "_txn", "needs_space")

    def __init__(self, txn: Apply, request: AppliedRequest, room: int) -> None:
        """room: what the quota leaves."""
        self.is_awaited = txn.is_awaited
        self.needs_space = False
        self._txn = txn
        self._request = request
        self._room = room
        self._costs: PutCost | None = None

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        if self._request.message is None:
            return self._txn.step(budget)  # it is read first
        if self._costs is None:
            self._costs = PutCost(self._request.message, put_cost=KEY_OVERHEAD_BYTES)
        if self._costs.step(budget):
            return True
        self.needs_space = self._costs.cost >= max(self._room, 1)
        return self._txn.step(budget)

    def outcome(self) -> bytes | Answer:
        return self._txn.outcome()
