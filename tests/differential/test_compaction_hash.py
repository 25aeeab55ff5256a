"""HashKV before and after a compaction, compared with etcd 3.5.1 and, if TEST_ETCD_NEWER names one, with an etcd >= 3.6."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tercet.proto import rpc_pb2
from tests.differential.twins import Twins, ask
from tests.support.client import Client
from tests.support.processes import TERCET, Cluster

_REVISIONS = (0, 1, 2, 3, 4, 5)


def _hashes(client: Client, *revisions: int) -> list[object]:
    answers = []
    for revision in revisions:
        answer = ask(client, rpc_pb2.HashKVRequest(revision=revision))
        answers.append(answer if isinstance(answer, tuple) else (answer.hash, answer.compact_revision))
    return answers


def _write(client: Client) -> None:
    for request in (
        rpc_pb2.PutRequest(key=b"k", value=b"1"),
        rpc_pb2.PutRequest(key=b"k", value=b"1"),
        rpc_pb2.DeleteRangeRequest(key=b"k"),
        rpc_pb2.PutRequest(key=b"z", value=b"1"),
    ):
        assert not isinstance(ask(client, request), tuple)


def _compact(client: Client, revision: int) -> None:
    assert not isinstance(ask(client, rpc_pb2.CompactionRequest(revision=revision, physical=True)), tuple)


def test_the_hash_at_a_compacted_revision_equals_etcds_before_the_compaction(twins: Twins) -> None:
    """After compacting a deletion's revision, 3.5.1 rejects HashKV there; 3.6 and 3.7 still return the earlier hash."""
    current = ask(twins.etcd, rpc_pb2.RangeRequest(key=b"a")).header.revision
    for client in (twins.etcd, twins.tercet):
        _write(client)
    before = _hashes(twins.etcd, current + 3)
    assert _hashes(twins.tercet, current + 3) == before
    for client in (twins.etcd, twins.tercet):
        _compact(client, current + 3)
    assert _hashes(twins.tercet, current + 3) == before
    assert _hashes(twins.tercet, current + 4, 0) == _hashes(twins.etcd, current + 4, 0)


@pytest.mark.skipif("TEST_ETCD_NEWER" not in os.environ, reason="TEST_ETCD_NEWER: path of an etcd from 3.6 on")
def test_hashes_around_a_compaction_equal_those_of_a_newer_etcd(tmp_path: Path) -> None:
    programs = {"tercet": TERCET, "newer": [os.environ.get("TEST_ETCD_NEWER", "")]}
    answers = []
    for name in programs:
        cluster = Cluster.plan(tmp_path / name, [name], programs={name: programs[name]})
        try:
            client = cluster.members[0].start().wait_ready().client
            _write(client)
            found = _hashes(client, *_REVISIONS)
            for revision in (4, 5):
                _compact(client, revision)
                found += _hashes(client, *_REVISIONS)
            answers.append(found)
        finally:
            cluster.dispose()
    assert answers[0] == answers[1]
