"""What a client does in a child process after a fork.

The child has copies of the parent's sockets and of every object, but neither the thread nor the tasks of its event loop. It
must not write to those sockets, which the parent still uses, nor close them in the usual way, which would change the selector
that both processes share. An object that holds such things is registered here, and told in the child.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    def after_fork(self) -> None:
        """In the child: forget what belongs to the parent, without using it."""
        ...


_registered: weakref.WeakSet[Forkable] = weakref.WeakSet()


def register(forkable: Forkable) -> None:
    """Until it is garbage."""
    _registered.add(forkable)


def _after_fork() -> None:
    for forkable in tuple(_registered):
        forkable.after_fork()


def disconnect(descriptor: int) -> None:
    """Make this process's copy of a socket useless. Its number stays taken, so that closing it later closes nothing else."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(null, descriptor)
    finally:
        os.close(null)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
