"""A commit of the backend on its way from its buffer to the disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tercet.storage.lmdb_file import Changes, LmdbFile

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Commit:
    """One on its way."""

    file: LmdbFile
    slices: Iterator[Sequence[Changes]]
    point: tuple[int, int]
    waiters: list[Callable[[], None]]
    started: float
    flushed: bool = False  # all slices are with the writer, and the order to commit
    sizes: tuple[int, int] = (0, 0)


def log_failure(error: Exception | None) -> None:
    """Of removing what nobody needs any more: the next start tries again."""
    if error is not None:
        logger.warning("database: %s", error)
