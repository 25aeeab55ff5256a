from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import StorageFailure
from tercet.mvcc import Loaded, Store, whole_apply
from tercet.mvcc.encoding import encode_revision_key
from tercet.mvcc.loading import _read_first_version, _read_kv
from tercet.proto import kv_pb2, rpc_pb2
from tercet.proto.wire import varint
from tercet.storage.interfaces import Bucket
from tests.mvcc.dict_backend import DictBackend

lengths = st.sampled_from([0, 1, 2, 0x7F, 0x80, 0x81, 0x3FFF, 0x4000])
values = st.binary(max_size=12) | st.builds(
    lambda length, byte: bytes([byte]) * length, lengths, st.sampled_from(b"0*\x10\x18 \1")
)
revisions = st.sampled_from([1, 2, 127, 128, 1 << 21, 1 << 40])


@given(
    key=values, create=revisions, mod=revisions, version=st.integers(1, 3), value=values, lease=st.sampled_from([0, 0, 1, -1])
)
def test_the_fast_parser_agrees_with_the_slow_one_or_declines(
    key: bytes, create: int, mod: int, version: int, value: bytes, lease: int
) -> None:
    kv = kv_pb2.KeyValue(key=key, create_revision=min(create, mod), mod_revision=mod, version=version, value=value, lease=lease)
    pair = kv.SerializeToString()
    fast, slow = _read_first_version(pair), _read_kv(pair, encode_revision_key(mod, 0))
    assert fast in (None, slow)
    assert slow == (key, varint(kv.create_revision), version.to_bytes(8, "big"), lease)
    if version == 1 and create >= mod and not lease and 0 < len(key) < 0x80 and len(value) < 0x4000:
        assert fast is not None


@given(st.binary(max_size=30))
def test_the_fast_parser_accepts_any_bytes(pair: bytes) -> None:
    found = _read_first_version(pair)
    if found is not None:
        assert pair.startswith(b"\n" + varint(len(found[0])) + found[0] + b"\x10" + found[1])


@pytest.mark.parametrize(
    ("revision_key", "pair"),
    [
        (encode_revision_key(2, 0), b"\xff"),
        (encode_revision_key(2, 0), b"\n\1k"),  # no version
        (
            encode_revision_key(2, 0),
            kv_pb2.KeyValue(key=b"k", create_revision=3, mod_revision=2, version=2).SerializeToString(),
        ),
        (
            encode_revision_key(2, 0),
            kv_pb2.KeyValue(key=b"k", create_revision=2, mod_revision=2, version=1 << 62).SerializeToString(),
        ),
        (
            encode_revision_key(2, 0),
            kv_pb2.KeyValue(key=b"k", create_revision=-1, mod_revision=2, version=1).SerializeToString(),
        ),
        (encode_revision_key(2, 0) + b"t", b"\xff"),
        (encode_revision_key(2, 0) + b"u", b"\n\1k"),
        (b"short", b"\n\1k"),
    ],
)
def test_the_error_names_the_damaged_revision(revision_key: bytes, pair: bytes) -> None:
    backend = DictBackend()
    backend.put(Bucket.KEY, revision_key, pair)
    with pytest.raises(StorageFailure, match=revision_key.hex()):
        Store(backend)


@pytest.mark.parametrize("name", [b"scheduledCompactRev", b"finishedCompactRev"])
def test_the_error_names_the_damaged_compaction_record(name: bytes) -> None:
    backend = DictBackend()
    backend.put(Bucket.META, name, b"x")
    with pytest.raises(StorageFailure, match=name.decode()):
        Store(backend)


def test_a_store_starts_with_what_another_thread_loaded() -> None:
    store = Store(DictBackend())
    for number in range(5):
        store.put(rpc_pb2.PutRequest(key=b"k%d" % (number % 3), value=b"v"))
    whole_apply(store.delete_range(rpc_pb2.DeleteRangeRequest(key=b"k1")))
    other = Store(store.backend, loaded=Loaded(store.backend.snapshot()))
    assert (dict(other.index.entries()), dict(other.index.pasts())) == (dict(store.index.entries()), dict(store.index.pasts()))
    assert other.revision == store.revision == 7
