"""How a transcript shows results: what must not differ between two servers and two clients is left out."""

from __future__ import annotations

import inspect
from typing import Any

# IDs are chosen by servers; the uuid, the client and the message of an object are its own business.
_LEFT_OUT = frozenset({"ID", "id", "uuid", "etcd_client", "cluster_id", "member_id", "raft_term", "header", "response_header"})


def shown(value: Any) -> str:
    """A result in one line."""
    if value is None or isinstance(value, bool | int | bytes | str):
        return str.__repr__(value) if isinstance(value, str) else repr(value)
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(shown, value))})"
    if hasattr(value, "ListFields"):
        fields = [(field.name, each) for field, each in value.ListFields() if field.name not in _LEFT_OUT]
        return f"{type(value).__name__}({', '.join(f'{name}={shown(each)}' for name, each in fields)})"
    if isinstance(value, Exception):
        return type(value).__name__ + ("" if type(value).__module__ == "builtins" else f": {value}")
    if hasattr(value, "__len__") and hasattr(value, "__getitem__"):
        return f"[{', '.join(shown(value[index]) for index in range(len(value)))}]"
    if hasattr(value, "__slots__"):
        names = sorted({name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())})
    else:
        names = sorted(name for name in vars(value) if not name.startswith("_"))
    fields = [(name, getattr(value, name)) for name in names if name not in _LEFT_OUT]
    return f"{type(value).__name__}({', '.join(f'{name}={shown(each)}' for name, each in fields)})"


def surface(modules: list[Any]) -> list[str]:
    """The public classes, functions and methods of modules, with their parameters; annotations left out."""
    lines = []
    for module in modules:
        for name, value in vars(module).items():
            if name.startswith("_") or not callable(value) or not getattr(value, "__module__", "").startswith(ROOTS):
                continue
            lines.append(f"{name}{parameters(value)}")
            if inspect.isclass(value):
                for each in dir(value):
                    attribute = inspect.getattr_static(value, each)
                    if each.startswith("_"):
                        continue
                    lines.append(f"{name}.{each}{parameters(getattr(value, each)) if callable(getattr(value, each)) else ''}")
                    lines.append(f"{name}.{each}: {'property' if isinstance(attribute, property) else 'method'}")
    return sorted(set(lines))


ROOTS = ("etcd3", "aetcd", "tercet.compat")


def parameters(value: Any) -> str:
    try:
        signature = inspect.signature(value)
    except ValueError:
        return "(...)"
    parts = [
        f"{'*' * max(0, each.kind - 1) if each.kind in (2, 4) else ''}{each.name}"
        + ("" if each.default is each.empty else f"={each.default!r}")
        for each in signature.parameters.values()
    ]
    return f"({', '.join(parts)})"
