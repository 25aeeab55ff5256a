"""Which buckets does a snapshot hold? All that etcd knows, also the empty ones: its tools expect to find them."""

from __future__ import annotations

from collections.abc import Iterator

from tercet.bolt.writer import Items, Source
from tercet.storage.interfaces import Bucket, ReadView

_BUCKETS = sorted(Bucket, key=lambda bucket: bucket.value)


def view_source(view: ReadView) -> Source:
    """A point in time of the backend, as `measure` wants it. The view must stay open until the last chunk is taken."""

    def read() -> Iterator[tuple[bytes, Items]]:
        for bucket in _BUCKETS:
            yield bucket.value, view.scan(bucket)

    return read
