"""Optional dependencies, and the extra that installs one that is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tercet.client.errors import ConfigurationError


@contextmanager
def needs(distribution: str, *, extra: str) -> Iterator[None]:
    """For a block of imports. Raises ConfigurationError instead of ImportError."""
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(f"{distribution} is not installed: pip install 'tercet-client[{extra}]'") from error
