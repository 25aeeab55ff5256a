"""Where does a key go that is longer than LMDB can order? All keys that share their first 510 bytes go into one record.

LMDB orders keys of at most 511 bytes; etcd's file format (a user's name may be a key) has no such bound. A key of up to 510
bytes is stored as it is. A longer one goes into a pack, filed under its first 510 bytes and one byte more, which sorts behind
the key that ends there and before all others: a scan that unpacks packs where it meets them is in order.

    pack: for each key, ascending: u32 size, rest of the key behind 510 bytes; u32 size, value      (big-endian)

Nobody stores such keys on purpose. They must only not stop a member that gets them from another one.
"""

from __future__ import annotations

from typing import Final

KEY_BYTES_MAX: Final = 510
_PACK_MARK: Final = b"\0"


def pack_key(key: bytes) -> bytes:
    """Under which key the pack is filed that `key` belongs to."""
    return key[:KEY_BYTES_MAX] + _PACK_MARK


def successor(stored_key: bytes) -> bytes:
    """The least key that may be stored behind this one."""
    if len(stored_key) <= KEY_BYTES_MAX:
        return stored_key + b"\0"
    return stored_key[:KEY_BYTES_MAX] + b"\1"


def unpack(stored_key: bytes, pack: bytes) -> dict[bytes, bytes]:
    """The whole keys of a pack, ascending, and their values."""
    prefix = stored_key[:KEY_BYTES_MAX]
    parts = []
    at = 0
    while at < len(pack):
        size = int.from_bytes(pack[at : at + 4], "big")
        parts.append(pack[at + 4 : at + 4 + size])
        at += 4 + size
    return {prefix + rest: value for rest, value in zip(parts[::2], parts[1::2], strict=True)}


def with_change(stored_key: bytes, pack: bytes | None, key: bytes, value: bytes | None) -> bytes | None:
    """The pack after `key` was put, or deleted (value None); None if nothing is left of it."""
    content = unpack(stored_key, pack) if pack is not None else {}
    if value is None:
        content.pop(key, None)
    else:
        content[key] = value
    if not content:
        return None
    parts: list[bytes] = []
    for whole in sorted(content):
        for part in (whole[KEY_BYTES_MAX:], content[whole]):
            parts += (len(part).to_bytes(4, "big"), part)
    return b"".join(parts)
