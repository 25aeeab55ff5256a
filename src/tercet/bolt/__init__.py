"""bbolt's file format: the form in which a store travels to etcd's members and tools, and comes from them.

Writing streams a sorted store into a file's bytes, reading judges every page; neither holds more than a few pages.
"""

from tercet.bolt.check import Report, Summary, check, summarize
from tercet.bolt.digest import DIGEST_BYTES, has_digest, verify_digest, with_digest
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
    "with_digest",
]
