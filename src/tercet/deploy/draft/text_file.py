"""Files of others that are read for what they say: small, and text, or refused in one line."""

from __future__ import annotations

from pathlib import Path

from tercet.errors import ConfigError

BYTES_MAX = 1 << 17


def read_text(path: Path, what: str) -> str:
    """The text of a file that should be `what`. Raises ConfigError for one that is unreadable, too large or no text."""
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > BYTES_MAX:  # before it is decoded: a cut within a character would look like no text
        raise ConfigError(f"{path}: is larger than {BYTES_MAX} bytes, which is no {what}")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not text in UTF-8") from error
