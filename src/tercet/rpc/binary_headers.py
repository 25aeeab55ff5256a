"""Standard base64 as Go reads binary headers: padded where the length is a multiple of four, else without padding."""

from __future__ import annotations

import binascii
import re
from typing import Final

_ALPHABET: Final = re.compile(rb"[A-Za-z0-9+/]*")


def decode_base64(text: bytes) -> bytes:
    """Raises ValueError with Go's text. Unused bits may have any value."""
    is_padded = not len(text) % 4
    try:
        if not is_padded and b"=" in text:
            raise binascii.Error
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error:
        raise ValueError(f"illegal base64 data at input byte {_corrupt_at(text, is_padded)}") from None


def _corrupt_at(text: bytes, is_padded: bool) -> int:
    """The position that Go names."""
    found = _ALPHABET.match(text)
    assert found is not None
    end = found.end()
    if end == len(text):
        return end - 1
    missing = -end % 4
    if not is_padded or text[end] != ord("=") or missing not in (1, 2) or not text.startswith(b"=" * missing, end):
        return end
    return end + missing
