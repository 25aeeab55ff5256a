"""Helpers that make bbolt files for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from tercet.bolt import BoltFile, Source, measure

Content = Mapping[bytes, Mapping[bytes, bytes]]


def source_of(content: Content) -> Source:
    """A source that gives `content` in order."""
    return lambda: ((name, sorted(content[name].items())) for name in sorted(content))


def write_image(path: Path, content: Content) -> Path:
    """Write `content` as a file. Its announced size must be its size."""
    image = measure(source_of(content))
    path.write_bytes(b"".join(image.chunks()))
    assert path.stat().st_size == image.size
    return path


def with_digest(image: bytes) -> bytes:
    """A saved snapshot: the file followed by its SHA-256."""
    return image + hashlib.sha256(image).digest()


def read_all(path: Path) -> dict[bytes, dict[bytes, bytes]]:
    """Everything in a file."""
    with BoltFile(path) as file:
        return {bucket.name: dict(file.items_of(bucket)) for bucket in file.roots()}


def edited(path: Path, change: Callable[[bytearray], None]) -> Path:
    """A copy of a file with `change` applied to its bytes."""
    data = bytearray(path.read_bytes())
    change(data)
    copy = path.with_suffix(".edited")
    copy.write_bytes(data)
    return copy
