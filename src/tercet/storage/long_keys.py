"""Keys longer than LMDB allows: all keys that share their first 510 bytes are stored in one record, a pack.

LMDB allows keys of at most 511 bytes; etcd's file format has no such bound (a user's name may be a key). A key of up to 510
bytes is stored as it is. A longer one goes into the pack whose key is its first 510 bytes and a zero byte. That sorts after the
key of exactly those 510 bytes and before all others, so a scan that unpacks each pack when it reaches it is in order.

    pack: for each key, ascending: u32 size, the key after its first 510 bytes, u32 size, value      (big-endian)

Such keys are rare. They must only not stop a member that receives them from another one.
"""

from __future__ import annotations

from typing import Final

KEY_BYTES_MAX: Final = 510
_PACK_MARK: Final = b"\0"


def pack_key(key: bytes) -> bytes:
    """The key of the pack that `key` belongs to."""
    return key[:KEY_BYTES_MAX] + _PACK_MARK


def successor(stored_key: bytes) -> bytes:
    """The least key that may be stored after this one."""
    if len(stored_key) <= KEY_BYTES_MAX:
        return stored_key + b"\0"
    return stored_key[:KEY_BYTES_MAX] + b"\1"


def unpack(stored_key: bytes, pack: bytes) -> dict[bytes, bytes]:
    """The full keys of a pack, ascending, and their values."""
    prefix = stored_key[:KEY_BYTES_MAX]
    parts = []
    at = 0
    while at < len(pack):
        size = int.from_bytes(pack[at : at + 4], "big")
        parts.append(pack[at + 4 : at + 4 + size])
        at += 4 + size
    return {prefix + rest: value for rest, value in zip(parts[::2], parts[1::2], strict=True)}


def with_change(stored_key: bytes, pack: bytes | None, key: bytes, value: bytes | None) -> bytes | None:
    """The pack after `key` is put, or deleted (value None); None if it is empty then."""
    content = unpack(stored_key, pack) if pack is not None else {}
    if value is None:
        content.pop(key, None)
    else:
        content[key] = value
    if not content:
        return None
    parts: list[bytes] = []
    for full_key in sorted(content):
        for part in (full_key[KEY_BYTES_MAX:], content[full_key]):
            parts += (len(part).to_bytes(4, "big"), part)
    return b"".join(parts)
