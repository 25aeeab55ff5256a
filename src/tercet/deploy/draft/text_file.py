"""Reading of input files, which must be small and text."""

from __future__ import annotations

from pathlib import Path

from tercet.errors import ConfigError

BYTES_MAX = 1 << 17


def read_text(path: Path, what: str) -> str:
    """The text of a file, expected to be `what`. Raises ConfigError if it is unreadable, too large or not text."""
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > BYTES_MAX:  # before decoding: a truncated character would be reported as not UTF-8
        raise ConfigError(f"{path}: larger than {BYTES_MAX} bytes, not a {what}")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error
