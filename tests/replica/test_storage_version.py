"""`storageVersion` follows the cluster version, as etcd's members and tools expect."""

from __future__ import annotations

import pytest

from tercet.proto import internal_pb2
from tercet.replica.requests import decode_request
from tercet.replica.state_machine import StateMachine
from tercet.replica.storage_version import follow, stored_version
from tercet.storage.interfaces import Bucket
from tercet.storage.memory_backend import MemoryBackend


def set_cluster_version(machine: StateMachine, version: str) -> None:
    request = internal_pb2.InternalRaftRequest(cluster_version_set=internal_pb2.ClusterVersionSetRequest(ver=version))
    machine.apply(decode_request(request.SerializeToString()))


def test_it_follows_the_cluster_version_up_and_down() -> None:
    backend = MemoryBackend()
    machine = StateMachine(backend)
    for cluster, stored in (("3.7.0", "3.7.0"), ("3.6.0", "3.6.0"), ("3.8.0", "3.8.0")):
        set_cluster_version(machine, cluster)
        assert backend.get(Bucket.META, b"storageVersion") == stored.encode()
        assert stored_version(backend) == stored


def test_etcd_35_has_no_such_key() -> None:
    backend = MemoryBackend()
    machine = StateMachine(backend)
    assert stored_version(backend) is None, "nothing is known of an empty database"
    set_cluster_version(machine, "3.5.0")
    assert backend.get(Bucket.META, b"storageVersion") is None
    backend.applied(5, 2)
    backend.commit_now()
    assert stored_version(backend) == "3.5.0"


def test_a_cluster_version_of_35_removes_the_key() -> None:
    backend = MemoryBackend()
    machine = StateMachine(backend)
    for version in ("3.6.0", "3.5.0"):
        set_cluster_version(machine, version)
    assert backend.get(Bucket.META, b"storageVersion") is None


def test_a_cluster_version_of_35_in_its_own_form_removes_the_key_too() -> None:
    """Members of 3.5 decide by a request to the v2 store."""
    backend = MemoryBackend()
    machine = StateMachine(backend)
    set_cluster_version(machine, "3.6.0")
    older = internal_pb2.Request(Method="PUT", Path="/0/version", Val="3.5.0")
    machine.apply(decode_request(internal_pb2.InternalRaftRequest(v2=older).SerializeToString()))
    assert machine.membership.cluster_version == "3.5.0"
    assert backend.get(Bucket.META, b"storageVersion") is None


def test_there_is_none_before_the_cluster_has_decided() -> None:
    """A member of etcd 3.6 that got a snapshot with 3.7.0, of a cluster about to become 3.6, never started again."""
    backend = MemoryBackend()
    machine = StateMachine(backend)
    set_cluster_version(machine, "3.0.0")
    assert backend.get(Bucket.META, b"storageVersion") is None


def test_an_installed_snapshot_gets_the_version_of_its_cluster() -> None:
    backend = MemoryBackend()
    machine = StateMachine(backend)
    set_cluster_version(machine, "3.7.0")
    backend.delete(Bucket.META, b"storageVersion")
    machine.load()
    follow(backend, machine.membership.cluster_version)
    assert stored_version(backend) == "3.7.0"


@pytest.mark.parametrize("version", [None, "", "not_decided", "3", "three.six.0"])
def test_an_invalid_version_changes_nothing(version: str | None) -> None:
    backend = MemoryBackend()
    follow(backend, version)
    assert list(backend.scan(Bucket.META)) == []
