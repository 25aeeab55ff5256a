"""Runs on the host: reads the end of a member's write-ahead log, and changes nothing. The member may be running.

Like `probe.py` it is sent as text, so it may use only the standard library of Python 3.7. Stdin carries the log's directory as
JSON; stdout has term and index of the last entry, the commit index and the vote's term, or an error. A record that is cut off
at the end is skipped: the member would cut it off as well.

Formats: a frame of etcd's is a little-endian u64 (low 56 bits: size, top byte: 0x80 + padding) and a walpb.Record, with its
kind in field 1 and its data in field 3; tercet's are described in tercet/storage/wal_format.py.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import IO, Any

ETCD_ENTRY, ETCD_STATE, ETCD_SNAPSHOT = 2, 3, 5
HEAD, BATCH, SNAPSHOT = 1, 2, 3
MAGIC = 0x7E4CE701


def main(source: IO[bytes]) -> None:
    directory = json.loads(source.read().decode())
    try:
        found = end_of_log(directory)
    except (OSError, ValueError, struct.error, IndexError) as error:
        found = {"error": str(error)}
    json.dump(found, sys.stdout)


def end_of_log(directory: str) -> dict[str, Any]:
    """Read whole segments, the newest first, until one has both a state and an entry or snapshot."""
    names = sorted((name for name in os.listdir(directory) if name.endswith(".wal")), reverse=True)
    end = {"term": 0, "index": 0, "commit": 0}
    has_state = has_entry = False
    for name in names:
        with open(os.path.join(directory, name), "rb") as file:
            content = file.read()
        found = read_etcd(content) if "-" in name else read_tercet(content)
        if not has_state and "commit" in found:
            end["commit"], has_state = found["commit"], True
        if not has_entry and "index" in found:
            end["term"], end["index"], has_entry = found["term"], found["index"], True
        if has_state and has_entry:
            break
    if not (has_state or has_entry):
        raise ValueError("no write-ahead log in " + directory)
    return end


def read_etcd(content: bytes) -> dict[str, int]:
    found = {}  # type: dict[str, int]
    at = 0
    while at + 8 <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        size, padding = length & ((1 << 56) - 1), (length >> 56) & 7 if length >> 63 else 0
        if not length or at + 8 + size > len(content):
            break
        record = fields(content[at + 8 : at + 8 + size])
        kind, data = record.get(1, 0), record.get(3, b"")
        if kind == ETCD_ENTRY:
            entry = fields(data, 3)
            found["term"], found["index"] = entry.get(2, 0), entry.get(3, 0)
        elif kind == ETCD_STATE:
            found["commit"] = fields(data).get(3, 0)
        elif kind == ETCD_SNAPSHOT:
            snapshot = fields(data)
            if snapshot.get(1, 0) >= found.get("index", 0):
                found["index"], found["term"] = snapshot.get(1, 0), snapshot.get(2, 0)
        at += 8 + size + padding
    return found


def read_tercet(content: bytes) -> dict[str, int]:
    found = {}  # type: dict[str, int]
    at = 0
    while at + 20 <= len(content):
        magic, kind, size = struct.unpack_from(">III", content, at)
        end = (at + 20 + size + 7 & ~7) + 8
        if magic != MAGIC or end > len(content):
            break
        body = content[at + 20 : at + 20 + size]
        state = 28 if kind == HEAD else 0
        found["commit"] = struct.unpack_from(">QQQ", body, state)[2]
        if kind == BATCH:
            read_batch(body, found)
        else:
            wire = body[24:]
            if kind == HEAD:
                (metadata,) = struct.unpack_from(">I", body, 52)
                wire = body[56 + metadata :]
            about = fields(fields(wire).get(2, b""))
            if about.get(2, 0) > found.get("index", 0):
                found["index"], found["term"] = about.get(2, 0), about.get(3, 0)
        at = end
    return found


def read_batch(body: bytes, found: dict[str, int]) -> None:
    at = 24
    while at + 8 <= len(body):
        (size,) = struct.unpack_from(">Q", body, at)
        entry = fields(body[at + 8 : at + 8 + size], 3)
        found["term"], found["index"] = entry.get(2, 0), entry.get(3, 0)
        at += 8 + size


def fields(message: bytes, last: int = 0) -> dict[int, Any]:
    """Values of a protobuf message of varints and bytes, by number. last: number of the field to stop after; 0: none."""
    found = {}  # type: dict[int, Any]
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        value, at = varint(message, at)
        if tag & 7 == 2:
            found[tag >> 3] = message[at : at + value]
            at += value
        else:
            found[tag >> 3] = value
        if tag >> 3 == last:
            break
    return found


def varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return value, at
