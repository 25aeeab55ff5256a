"""The engine as one file: metadata of a finished artifact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Artifact:
    """A file to copy to hosts."""

    engine: str  # "tercet" or "etcd"
    version: str  # without a leading v
    path: Path
    sha256: str  # of the file at `path`
    size: int  # bytes
    release: str  # name of its directory on a host: tercet-0.1.0-1a2b3c4d
