"""Checks the revisions in the clients' history.

Revisions number the changes of the whole store, so they order operations on different keys, which linearizability of each key
alone does not:
- the revision of a reply is not below that of any reply returned before its request was sent; that of a change is above it;
- no two changes have the same revision;
- a key has one value at a revision, in every read, and it is the value that was put there.
"""

from __future__ import annotations

from collections.abc import Iterable

from tercet.proto import rpc_pb2
from tercet.sim.history import HistoryViolation, Kind, Operation


def check_revisions(history: Iterable[Operation]) -> None:
    """Raises HistoryViolation at the first reply that breaks a rule."""
    answered = [one for one in history if one.returned is not None and one.error is None]
    _check_real_time([operation for operation in answered if not operation.is_serializable])
    _check_changes(answered)
    _check_values([operation for operation in answered if operation.kind is not Kind.REQUEST])


def is_change(operation: Operation) -> bool:
    """Whether an answered operation consumed a revision."""
    if operation.kind is Kind.REQUEST and isinstance(operation.request, rpc_pb2.RangeRequest):
        return False
    return operation.kind is not Kind.GET and operation.took_effect


def _check_real_time(answered: list[Operation]) -> None:
    events = [(operation.called, 0, number) for number, operation in enumerate(answered)]
    events += [(operation.returned or 0, 1, number) for number, operation in enumerate(answered)]
    events.sort()
    newest: Operation | None = None  # of all replies so far
    floors: dict[int, Operation | None] = {}
    for _, is_return, number in events:
        operation = answered[number]
        if not is_return:
            floors[number] = newest
            continue
        floor = floors.pop(number)
        if floor is not None and operation.revision < floor.revision + is_change(operation):
            raise HistoryViolation(f"a revision went back in time:\n  {floor}\n  then {operation}")
        if newest is None or operation.revision > newest.revision:
            newest = operation


def _check_changes(answered: list[Operation]) -> None:
    changes: dict[int, Operation] = {}
    for operation in answered:
        if not is_change(operation):
            continue
        other = changes.setdefault(operation.revision, operation)
        if other is not operation:
            raise HistoryViolation(f"two changes have one revision:\n  {other}\n  and {operation}")


def _check_values(answered: list[Operation]) -> None:
    values: dict[tuple[bytes, int], tuple[bytes | None, Operation]] = {}
    for operation in answered:
        if operation.kind is Kind.GET:
            if operation.mod_revision > operation.revision:
                raise HistoryViolation(f"a value of a later revision: {operation}")
            if operation.found is None:
                continue
            seen = (operation.key, operation.mod_revision), operation.found
        elif is_change(operation) and operation.kind is not Kind.DELETE:
            seen = (operation.key, operation.revision), operation.value or b""
        else:
            continue
        value, other = values.setdefault(seen[0], (seen[1], operation))
        if value != seen[1]:
            raise HistoryViolation(f"one revision with two values:\n  {other}\n  and {operation}")
