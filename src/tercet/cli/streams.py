"""Standard streams that may be closed, full or gone.

A closed stream reads as empty and discards output, as in etcdctl. Output that cannot be written to stdout ends the command with
an error; etcdctl ignores it and exits with 0, so that a script believes in a truncated file. Errors on stderr are ignored.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import IO, Any, BinaryIO

from tercet.cli.ctl.errors import CommandError, Exit


class Output:
    """A binary stream. Raises CommandError for what cannot be written, BrokenPipeError if the reader is gone."""

    def __init__(self, stream: BinaryIO, name: str, *, ignore_errors: bool = False) -> None:
        self._stream = stream
        self._name = name
        self._ignore_errors = ignore_errors

    def write(self, data: bytes, /) -> None:
        try:
            self._stream.write(data)
        except OSError as error:
            self._fail(error)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        if self._ignore_errors:
            discard(self._stream)
            return
        if isinstance(error, BrokenPipeError):
            raise error
        raise CommandError(Exit.ERROR, write_error_text(self._name, error)) from error


def write_error_text(name: str, error: OSError) -> str:
    """In Go's words."""
    return f"write /dev/{name}: {(error.strerror or str(error)).lower()}"


def open_missing_streams() -> None:
    """Open /dev/null for standard streams that are closed; otherwise a socket would get their file descriptors."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115 - until the process ends
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115


def is_output_error(error: OSError) -> bool:
    """Whether an error comes from a write to a stream that was already open: it names no file."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EBADF, errno.EFBIG)


def discard(stream: IO[Any]) -> None:
    """Send what is still buffered to /dev/null; otherwise the flush at exit fails again, with exit code 120."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
