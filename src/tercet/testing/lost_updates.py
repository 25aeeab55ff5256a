"""Lost updates in a recorded history: a client writes what it made of an old version, over one that it has not seen.

    a: get x -> revision 5      b: get x -> revision 5      b: put x at revision 6      a: put x at revision 7

The write of `b` is lost: `a` knew only revision 5. Such a history is linearizable, so `check_linearizable` accepts it; a
transaction that compares mod_revision prevents it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tercet.sim.history import HistoryViolation, Kind, Operation
from tercet.testing.history import History


class LostUpdate(HistoryViolation):
    """A write has replaced a version that its client had not read."""


def assert_no_lost_updates(history: History | Iterable[Operation]) -> None:
    """Check each put and delete of a client that has read the key since its last write to it.

    Between the version that it read and its own there must be none of another client. A write without such a read, and one that
    compares (`replace`, `put_if_absent`), is not checked. A write of unknown outcome counts once a client has read what it
    wrote. Raises LostUpdate with the three operations.
    """
    operations = list(history.operations if isinstance(history, History) else history)
    versions = _versions(operations)
    read: dict[tuple[int, bytes], Operation] = {}
    for operation in operations:
        who = operation.client, operation.key
        if operation.kind is Kind.GET:
            if operation.returned is not None:
                read[who] = operation
            continue
        before = read.pop(who, None)
        if before is not None and operation.kind is not Kind.CAS and operation.took_effect:
            for revision, other in versions[operation.key].items():
                if revision < operation.revision and _is_newer(revision, other, before) and not _is_own(operation, other):
                    text = f"an update is lost:\n{before}\n{operation}\nand in between, at revision {revision}\n{other}"
                    raise LostUpdate(text)


def _is_newer(revision: int, other: Operation, read: Operation) -> bool:
    """Whether a version is newer than what a read found. A read that found nothing does not say at which revision it was."""
    if read.mod_revision:
        return revision > read.mod_revision
    return read.returned is not None and other.called > read.returned


def _versions(operations: Iterable[Operation]) -> dict[bytes, dict[int, Operation]]:
    """By key and revision: the write that made the version, or a read that found it."""
    versions: dict[bytes, dict[int, Operation]] = defaultdict(dict)
    for operation in operations:
        if operation.kind is Kind.GET:
            if operation.mod_revision:
                versions[operation.key].setdefault(operation.mod_revision, operation)
        elif operation.took_effect and operation.revision:
            versions[operation.key][operation.revision] = operation
    return versions


def _is_own(operation: Operation, other: Operation) -> bool:
    """Whether a version is the same write: sent twice, since the first answer was lost, and read by somebody in between."""
    if other.kind is Kind.GET:
        return other.found == operation.value
    return other.client == operation.client
