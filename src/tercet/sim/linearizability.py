"""Linearizability checker: some order of all operations explains every reply, each taking effect between call and return.

Linearizability is local: a history is linearizable if it is so for each key alone (Herlihy and Wing 1990, theorem 1). For one
key the checker walks through calls and returns in order of time and keeps the set of possible configurations: the key's value,
and which of the running operations have taken effect. When an operation returns, only configurations in which it has taken
effect survive, after the running operations were tried before it in every order. An empty set means that no order exists.
(Wing and Gong 1993, with Lowe's just-in-time step, 2017.)

What keeps the set small:
- A running operation without effect (a read, a failed cas) takes effect as soon as its reply fits: that excludes nothing.
- An operation without a reply may take effect at any later time or never. Of two configurations that differ only in how many of
  these they have used, the one with fewer can do everything that the other can: only it is kept.
- Values that no read and no comparison names are interchangeable: they count as one, and of the unanswered operations that are
  then equal only the first is tried.

Example: put 1 has returned, then get finds nothing: no configuration survives the return of the get.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, TypeAlias

from tercet.sim.history import HistoryViolation, Kind, Operation, Undecided

CONFIGURATIONS_MAX: Final = 20_000

Value: TypeAlias = bytes | None
Configuration: TypeAlias = tuple[int, Value]
"""(bits of the operations that run and have taken effect, the key's value)."""


def check_linearizable(history: Iterable[Operation], *, configurations_max: int = CONFIGURATIONS_MAX) -> None:
    """Check a history of operations on keys that are absent at first.

    Raises HistoryViolation with the operations around the first reply that cannot be explained; Undecided where more than
    `configurations_max` configurations would have to be kept at once.
    """
    by_key: dict[bytes, list[Operation]] = {}
    for operation in history:
        by_key.setdefault(operation.key, []).append(operation)
    for key in sorted(by_key):
        _KeyHistory(by_key[key], configurations_max).check()


class _KeyHistory:
    """The operations on one key."""

    def __init__(self, operations: list[Operation], configurations_max: int) -> None:
        # A read without a reply proves nothing and changes nothing.
        self._operations = [one for one in operations if one.returned is not None or one.kind is not Kind.GET]
        self._effects = _with_one_unseen_value(self._operations)
        self._configurations_max = configurations_max
        self._running: dict[int, Operation] = {}  # effects, by bit
        self._unanswered = 0  # bits of running operations that will never return

    def check(self) -> None:
        configurations: set[Configuration] = {(0, None)}
        for _, is_return, number in self._events():
            bit = 1 << number
            if not is_return:
                self._running[bit] = self._effects[number]
                if self._effects[number].returned is None:
                    self._unanswered |= bit
                continue
            configurations = self._survivors(configurations, bit)
            del self._running[bit]
            if not configurations:
                raise HistoryViolation(self._explain(number))

    def _events(self) -> list[tuple[int, bool, int]]:
        """(time, is a return, number) in order. At equal times calls come first, so that more orders are allowed."""
        events = []
        for number, operation in enumerate(self._operations):
            events.append((operation.called, False, number))
            if operation.returned is not None:
                events.append((operation.returned, True, number))
        events.sort()
        return events

    def _survivors(self, before: set[Configuration], returning: int) -> set[Configuration]:
        """All configurations in which the operation `returning` has taken effect, without its bit."""
        reached: dict[Configuration, list[int]] = {}
        after: dict[Configuration, list[int]] = {}
        left = [self._settled(*configuration) for configuration in before]
        while left:
            used, value = left.pop()
            if used & returning:
                self._keep(after, used & ~returning, value)
                continue
            if not self._keep(reached, used, value):
                continue
            tried = set()
            for bit, operation in self._running.items():
                if used & bit:
                    continue
                fits, changed = step(operation, value)
                if bit & self._unanswered:
                    twin = (operation.kind, operation.expected, operation.value)
                    if changed == value or twin in tried:
                        continue
                    tried.add(twin)
                if fits:
                    left.append(self._settled(used | bit, changed))
            if len(reached) + len(after) > self._configurations_max:
                raise Undecided(f"key {self._operations[0].key!r}: more than {self._configurations_max} configurations")
        return {(known | unknown, value) for (known, value), unknowns in after.items() for unknown in unknowns}

    def _settled(self, used: int, value: Value) -> Configuration:
        """With every running operation done that has no effect and whose reply fits."""
        for bit, operation in self._running.items():
            if not used & bit and _has_no_effect(operation) and step(operation, value)[0]:
                used |= bit
        return used, value

    def _keep(self, kept: dict[Configuration, list[int]], used: int, value: Value) -> bool:
        """Add a configuration, unless one with fewer unanswered operations used is there; False if so."""
        unknown = used & self._unanswered
        others = kept.setdefault((used & ~unknown, value), [])
        if any(other & unknown == other for other in others):
            return False
        others[:] = [other for other in others if other & unknown != unknown]
        others.append(unknown)
        return True

    def _explain(self, number: int) -> str:
        operation = self._operations[number]
        around = [
            one
            for one in self._operations
            if one.called <= (operation.returned or 0) and (one.returned is None or one.returned >= operation.called)
        ]
        earlier = [one for one in self._operations if one.returned is not None and one.returned < operation.called]
        earlier = sorted(earlier, key=lambda one: one.returned or 0)[-4:]
        lines = [f"not linearizable: no order explains {operation}", "before it:", *map(str, earlier), "concurrent with it:"]
        return "\n  ".join([*lines, *(str(one) for one in around if one is not operation)])


def _with_one_unseen_value(operations: list[Operation]) -> list[Operation]:
    """The same operations, with one value in place of all that no reply and no comparison names."""
    named = {one.found for one in operations if one.returned is not None} | {one.expected for one in operations} | {None}
    unseen = b"unseen"
    while unseen in named:
        unseen += b"!"
    return [one if one.value in named else replace(one, value=unseen) for one in operations]


def _has_no_effect(operation: Operation) -> bool:
    """A read, or a write that failed. Not a put of the value already there: after a delete it has an effect."""
    return operation.returned is not None and (operation.kind is Kind.GET or not operation.took_effect)


def step(operation: Operation, value: Value) -> tuple[bool, Value]:
    """(whether the reply fits if it takes effect now, the value afterwards). Without a reply everything fits."""
    answered = operation.returned is not None
    kind = operation.kind
    if kind is Kind.GET:
        return operation.found == value, value
    if kind is Kind.PUT:
        return True, operation.value
    if kind is Kind.DELETE:
        return not answered or operation.took_effect == (value is not None), None
    matches = value == operation.expected
    return not answered or operation.took_effect == matches, operation.value if matches else value
