"""The buckets of a snapshot: all that etcd has, including empty ones, which its tools expect."""

from __future__ import annotations

from collections.abc import Iterator

from tercet.bolt.writer import Items, Source
from tercet.storage.interfaces import Bucket, ReadView

_BUCKETS = sorted(Bucket, key=lambda bucket: bucket.value)


def view_source(view: ReadView) -> Source:
    """A view of the backend as a source for `measure`. It must stay open until the last chunk is read."""

    def read() -> Iterator[tuple[bytes, Items]]:
        for bucket in _BUCKETS:
            yield bucket.value, view.scan(bucket)

    return read
