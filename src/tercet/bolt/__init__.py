"""bbolt's file format: the format of snapshots that etcd's members and tools send and receive.

The writer streams a sorted store as a file's bytes; the reader verifies every page. Neither holds more than a few pages.
"""

from tercet.bolt.check import Report, Summary, check, summarize
from tercet.bolt.digest import DIGEST_BYTES, has_digest, verify_digest
from tercet.bolt.format import KEY_BYTES_MAX
from tercet.bolt.reader import BoltFile
from tercet.bolt.source import view_source
from tercet.bolt.writer import CHUNK_BYTES, Image, Source, measure

__all__ = [
    "CHUNK_BYTES",
    "DIGEST_BYTES",
    "KEY_BYTES_MAX",
    "BoltFile",
    "Image",
    "Report",
    "Source",
    "Summary",
    "check",
    "has_digest",
    "measure",
    "summarize",
    "verify_digest",
    "view_source",
]
