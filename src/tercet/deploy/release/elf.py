"""For which processor is this program, and what of it is needed to run?

An ELF file starts with a header that says where its segments (what is loaded) and its sections (for linkers and debuggers)
are. Debug sections lie behind the last segment, so that cutting there loses nothing that runs; of uvloop's 13.6 MB, 1.6 MB
are left.

Source: the ELF-64 object file format (System V ABI, chapter 4). Little-endian 64-bit only: what is not is left as it is.
"""

from __future__ import annotations

import struct

_HEADER = struct.Struct("<4sBBB9xHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_NO_SECTIONS = struct.pack("<HHH", 0, 0, 0)
_MACHINES = {62: "x86_64", 183: "aarch64", 21: "ppc64le", 22: "s390x", 243: "riscv64", 3: "i386", 40: "arm"}
_ALIASES = {"amd64": "x86_64", "arm64": "aarch64", "386": "i386"}


def architecture(name: str) -> str:
    """One name for each: `uname -m`'s, also for what others call amd64 and arm64."""
    return _ALIASES.get(name, name)


def machine(content: bytes) -> str | None:
    """`uname -m`'s name for what an ELF file runs on; None for any other file."""
    if len(content) < 20 or content[:4] != b"\x7fELF":
        return None
    number = int.from_bytes(content[18:20], "big" if content[5] == 2 else "little")
    return _MACHINES.get(number, f"machine {number}")


def without_debug(content: bytes) -> bytes:
    """The library up to the end of its last segment, without the table of sections."""
    if len(content) < _HEADER.size:
        return content
    header = _HEADER.unpack_from(content)
    magic, word_class, byte_order = header[:3]
    if (magic, word_class, byte_order) != (b"\x7fELF", 2, 1):
        return content
    segments_at, sections_at, segment_size, segment_count = header[8], header[9], header[12], header[13]
    end = segments_at + segment_size * segment_count
    if segment_size != _SEGMENT.size or end > len(content):
        return content
    for number in range(segment_count):
        _kind, _flags, offset, _address, _physical, size, _memory, _align = _SEGMENT.unpack_from(
            content, segments_at + number * segment_size
        )
        end = max(end, offset + size)
    if end >= len(content) or sections_at < end:  # nothing behind, or the table is not where it is looked for
        return content
    kept = bytearray(content[:end])
    kept[40:48] = bytes(8)  # e_shoff
    kept[58:64] = _NO_SECTIONS  # e_shentsize, e_shnum, e_shstrndx
    return bytes(kept)
