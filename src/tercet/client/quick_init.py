"""A faster `__init__` for frozen dataclasses with slots, of which an answer has thousands.

The one that `dataclass` generates calls `object.__setattr__` for each field, which looks the field up in the class. This one
calls the slots themselves, in half the time: 0.7 instead of 1.4 us for the seven fields of a KV, and 3.3 instead of 5.1 us for
an event of a watch (`make bench-clients`).
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

ClassT = TypeVar("ClassT", bound=type[Any])


def quick_init(cls: ClassT) -> ClassT:
    """Decorates a dataclass(frozen=True, slots=True) without defaults and without __post_init__."""
    names = [field.name for field in fields(cls)]
    slots = {f"set_{name}": cls.__dict__[name].__set__ for name in names}
    lines = [f"def __init__(self, {', '.join(names)}):", *(f"    set_{name}(self, {name})" for name in names)]
    made: dict[str, Any] = {}
    exec("\n".join(lines), slots, made)
    init = made["__init__"]
    init.__module__, init.__qualname__ = cls.__module__, f"{cls.__qualname__}.__init__"
    init.__annotations__ = cls.__init__.__annotations__
    cls.__init__ = init
    return cls
