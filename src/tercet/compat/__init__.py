"""Drop-in replacements for the clients python-etcd3 (`tercet.compat.etcd3`) and aetcd (`tercet.compat.aetcd`).

    import tercet.compat.etcd3 as etcd3

Names, submodules, signatures, results and exceptions are those of the originals; what differs is in docs/compat-clients.md.
"""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module


def replace_package(name: str) -> None:
    """Let `import etcd3` or `import aetcd`, also in other packages of this process, mean the module of that name here.

    name: "etcd3" or "aetcd". Raises ImportError if the original is imported already.
    """
    ours = import_module(f"{__name__}.{name}")
    if sys.modules.get(name, ours) is not ours:
        raise ImportError(f"{name} is imported already: replace it before")
    sys.modules[name] = ours
    for module in pkgutil.walk_packages(ours.__path__, f"{ours.__name__}."):
        sys.modules[module.name.removeprefix(f"{__name__}.")] = import_module(module.name)
