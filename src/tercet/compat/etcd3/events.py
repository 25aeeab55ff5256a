"""Events of a watch. Their attributes are those of the key-value pair; with the prefix `prev_`, those of the pair before."""

from __future__ import annotations

from typing import Any

from tercet.proto import kv_pb2


class Event:
    """`event.value` and `event.prev_value`, for example; `prev_` fields are empty without `prev_kv=True`."""

    def __init__(self, event: kv_pb2.Event) -> None:
        self.key = event.kv.key
        self._event = event

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.startswith("prev_"):
            return getattr(self._event.prev_kv, name.removeprefix("prev_"))
        return getattr(self._event.kv, name)

    def __str__(self) -> str:
        return f"{type(self)} key={self.key!r} value={self.value}"


class PutEvent(Event):
    """The key was created or changed."""


class DeleteEvent(Event):
    """The key was deleted, or its lease has ended."""


def new_event(event: kv_pb2.Event) -> Event:
    """The event of the type that `event` names."""
    return DeleteEvent(event) if event.type == kv_pb2.Event.DELETE else PutEvent(event)
