"""ELF files: the architecture of a program, and stripping of debug sections.

Debug sections are after the last loadable segment, so that truncating there keeps everything needed at run time. uvloop shrinks
from 13.6 MB to 1.6 MB.

Source: the ELF-64 object file format (System V ABI, chapter 4). Only little-endian 64-bit files are stripped.
"""

from __future__ import annotations

import struct

_HEADER = struct.Struct("<4sBBB9xHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_NO_SECTIONS = struct.pack("<HHH", 0, 0, 0)
_MACHINES = {62: "x86_64", 183: "aarch64", 21: "ppc64le", 22: "s390x", 243: "riscv64", 3: "i386", 40: "arm"}
_ALIASES = {"amd64": "x86_64", "arm64": "aarch64", "386": "i386"}


def architecture(name: str) -> str:
    """The `uname -m` name of an architecture, also for the aliases amd64 and arm64."""
    return _ALIASES.get(name, name)


def machine(content: bytes) -> str | None:
    """The `uname -m` name of an ELF file's architecture; None for other files."""
    if len(content) < 20 or content[:4] != b"\x7fELF":
        return None
    number = int.from_bytes(content[18:20], "big" if content[5] == 2 else "little")
    return _MACHINES.get(number, f"machine {number}")


def without_debug(content: bytes) -> bytes:
    """The file up to the end of its last segment, without the section table."""
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
    if end >= len(content) or sections_at < end:  # nothing to strip, or an unusual layout
        return content
    kept = bytearray(content[:end])
    kept[40:48] = bytes(8)  # e_shoff
    kept[58:64] = _NO_SECTIONS  # e_shentsize, e_shnum, e_shstrndx
    return bytes(kept)
