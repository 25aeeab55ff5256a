"""What file does a host get so that it can run the engine, and is it the right one?

`prepare` turns the cluster file's `engine` into one local file, the same shape for both engines: a tar.gz with bin/ (and, for
tercet, lib/), which `release.py` installs. It is made once and kept in a cache by content.

Nothing here talks to a host.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tercet.deploy.release import activate_command, install_command, program, rollback_command, tool

if TYPE_CHECKING:
    from tercet.deploy.cluster_file import EngineSettings

__all__ = [
    "Artifact",
    "Progress",
    "activate_command",
    "default_cache",
    "install_command",
    "prepare",
    "program",
    "rollback_command",
    "tool",
]

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all (0 while unknown), from any thread."""


@dataclass(frozen=True)
class Artifact:
    """One file, ready to be copied to hosts."""

    engine: str  # "tercet" or "etcd"
    version: str  # without a leading v
    path: Path
    sha256: str  # of the file at `path`
    size: int  # bytes
    release: str  # name of its directory on a host: tercet-0.1.0-1a2b3c4d


def default_cache() -> Path:
    """$XDG_CACHE_HOME/tercet, ~/.cache/tercet where that is not set."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "tercet"


async def prepare(
    engine: EngineSettings,
    *,
    arch: str,
    python: tuple[int, int] | None,
    cache: Path,
    progress: Progress | None = None,
) -> Artifact:
    """The engine as one file for hosts of this architecture, from the cache where it is there.

    arch: as `uname -m` says it on the host. python: the host's, which only tercet asks for; None means this machine's.
    Raises ConfigError where the engine is not to be had or is not what it should be, with the file or address and what to do.
    """
    raise NotImplementedError
