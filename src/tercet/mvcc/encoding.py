"""Revisions and KeyValues as bytes.

The revision key, under which bucket `key` stores a revision, is 8 bytes of main revision, `_`, and 8 bytes of sub revision,
both big endian, so that the bucket is in the order of history; that of a tombstone ends in `t`. The value is a mvccpb.KeyValue,
fields ascending, zeros omitted: bytes must be equal on every member, or HashKV would differ.

Fast code, fenced: a Put encodes its KeyValue once, in 0.5 us, where protobuf takes 2 (build, then serialize), and stored
KeyValues are pasted into responses without being parsed. `encode_key_value_slowly` is the plain twin;
tests/mvcc/test_encoding.py holds the two together, `python -m tests.mvcc.bench` measures. Nothing here knows the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tercet.proto import kv_pb2
from tercet.proto.wire import VARINTS, decode_varint, varint

REVISION_BYTES: Final = 17
TOMBSTONE: Final = b"t"
FIRST_SUB: Final = b"_" + bytes(8)


def encode_revision_key(main: int, sub: int) -> bytes:
    """17 bytes: the revision key of write `sub` of revision `main`."""
    return main.to_bytes(8, "big") + b"_" + sub.to_bytes(8, "big")


def main_of(stored_key: bytes) -> int:
    return int.from_bytes(stored_key[:8], "big")


def sub_of(stored_key: bytes) -> int:
    return int.from_bytes(stored_key[9:REVISION_BYTES], "big")


def is_tombstone(stored_key: bytes) -> bool:
    return len(stored_key) > REVISION_BYTES


def revision_bound(revision: int) -> bytes:
    """A bound: the revision keys of revisions up to `revision` are less than it, and no later one is."""
    return (revision + 1).to_bytes(8, "big")


def encode_key_value(key: bytes, create: bytes, mod: bytes, version: int, value: bytes, lease: int) -> bytes:
    """mvccpb.KeyValue from its parts; `create` and `mod` are varints, since they are encoded once and used often."""
    if not key:
        return encode_key_value_slowly(key, create, mod, version, value, lease)
    length = VARINTS[len(key)] if len(key) < 0x4000 else varint(len(key))
    if version == 1:
        out = b"\n%b%b\x10%b\x18%b \1" % (length, key, create, mod)
    else:
        out = b"\n%b%b\x10%b\x18%b %b" % (length, key, create, mod, varint(version))
    if value:
        out += b"*%b%b" % (VARINTS[len(value)] if len(value) < 0x4000 else varint(len(value)), value)
    if lease:
        out += b"0" + varint(lease)
    return out


def encode_key_value_slowly(key: bytes, create: bytes, mod: bytes, version: int, value: bytes, lease: int) -> bytes:
    """The plain twin of `encode_key_value`, by protobuf."""
    kv = kv_pb2.KeyValue(key=key, version=version, value=value, lease=lease)
    kv.create_revision, kv.mod_revision = decode_varint(create), decode_varint(mod)
    return kv.SerializeToString(deterministic=True)


def encode_tombstone(key: bytes) -> bytes:
    """What a delete stores: the key alone."""
    return b"\n" + varint(len(key)) + key if key else b""


def encode_deleted(key: bytes, mod: bytes) -> bytes:
    """The KeyValue in the event of a delete: the key and `mod`, the varint of the revision that deleted it."""
    return encode_tombstone(key) + b"\x18" + mod


def paste_kvs(number: int, kvs: Sequence[bytes], tail: bytes = b"") -> bytes:
    """Stored KeyValues as a repeated field `number` (< 16) of a response, then `tail`. Copies each once: they may be large."""
    tag = bytes((number << 3 | 2,))
    try:
        parts = [part for kv in kvs for part in (tag, VARINTS[len(kv)], kv)]
    except IndexError:  # a KeyValue of 16 KiB or more
        parts = [part for kv in kvs for part in (tag, varint(len(kv)), kv)]
    parts.append(tail)
    return b"".join(parts)


def strip_kv(stored: bytes, *, lease: bool) -> bytes:
    """A KeyValue without its value, and without its lease unless `lease`."""
    kv = kv_pb2.KeyValue.FromString(stored)
    kv.ClearField("value")
    if not lease:
        kv.ClearField("lease")
    return kv.SerializeToString(deterministic=True)


def value_in(kv: bytes, key: bytes) -> bytes:
    """The value in a stored KeyValue of `key`; where the key is short, in a third of the time that protobuf takes.

    Skips key, create_revision, mod_revision and version, which are stored in this order.
    """
    if not key or len(key) >= 0x80:
        return kv_pb2.KeyValue.FromString(kv).value
    at, size = len(key) + 2, len(kv)
    for _ in range(3):
        at += 1
        while kv[at] >= 0x80:
            at += 1
        at += 1
    if at >= size or kv[at] != 0x2A:
        return b""
    length = kv[at + 1]
    at += 2
    if length >= 0x80:
        length = length & 0x7F | kv[at] << 7
        if kv[at] >= 0x80:
            return kv_pb2.KeyValue.FromString(kv).value
        at += 1
    return kv[at : at + length]


def key_of(kv: bytes) -> bytes:
    """The key of a stored KeyValue or tombstone; where the key is short, without parsing the rest."""
    if len(kv) > 1 and kv[0] == 10 and kv[1] < 0x80:
        return kv[2 : kv[1] + 2]
    return kv_pb2.KeyValue.FromString(kv).key
