"""Public names of a package, imported on first use (PEP 562): `import tercet.rpc` for a client must not load the server.

    if TYPE_CHECKING:
        from tercet.rpc.channel import Channel as Channel

    __all__ = ["Channel"]
    __getattr__ = lazy_exports(__name__, {"channel": ("Channel",)})

A name that has been used once is an attribute of the package, found without this code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def lazy_exports(package: str, names: Mapping[str, tuple[str, ...]]) -> Callable[[str], object]:
    """The `__getattr__` of a package. names: by submodule, relative to the package. Raises AttributeError for others."""
    modules = {name: f"{package}.{module}" for module, exported in names.items() for name in exported}

    def __getattr__(name: str) -> object:  # noqa: N807 - the package's
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__
