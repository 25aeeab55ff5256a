"""Requests at the edges that an etcd >= 3.6 answers differently from 3.5.1: ours answers as that etcd does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from tercet.proto import rpc_pb2
from tests.differential.twins import refusal
from tests.support.newer import needs_newer_etcd, newer_etcd
from tests.support.processes import TERCET, Cluster, Member, wait_until

pytestmark = [pytest.mark.server_process, needs_newer_etcd]

_Alarm = rpc_pb2.AlarmRequest
_UNNAMED = (3, 17, -1)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Member, Member]]:
    """A newer etcd and a tercet, each a cluster of one, whose cluster version is set."""
    directory = tmp_path_factory.mktemp("edges")
    programs = {"etcd": newer_etcd(), "tercet": TERCET}
    clusters = [Cluster.plan(directory / name, ["n1"], programs={"n1": program}) for name, program in programs.items()]
    theirs, ours = (cluster.members[0] for cluster in clusters)
    try:
        for member in (theirs, ours):
            member.start()
        for member in (theirs, ours):
            member.wait_ready()
            wait_until(lambda one=member: "not_decided" not in one.http("/version")[1], "the cluster version is set")  # type: ignore[misc]
        yield theirs, ours
    finally:
        for cluster in clusters:
            cluster.dispose()


def asked(member: Member, method: str, request: Message, answer: type[Message]) -> Any:
    """The response without its header, or (code, text)."""
    try:
        found = member.client.call(method, request, answer, 20)
    except grpc.RpcError as error:
        return refusal(error)
    found.ClearField("header")
    return found


def check(pair: tuple[Member, Member], method: str, request: Message, answer: type[Message]) -> Any:
    theirs, ours = (asked(member, method, request, answer) for member in pair)
    assert ours == theirs, f"{method} {request}"
    return ours


def check_hashes(pair: tuple[Member, Member]) -> None:
    for revision in (0, -1, -5, -(1 << 63), 1, 2, 3, 4, 5, 6):
        check(pair, "Maintenance/HashKV", rpc_pb2.HashKVRequest(revision=revision), rpc_pb2.HashKVResponse)


def test_hashes_at_negative_revisions_and_at_0_after_a_compaction_at_0(pair: tuple[Member, Member]) -> None:
    check_hashes(pair)
    for compacted in (0, 3):
        for key in (b"a", b"b"):
            check(pair, "KV/Put", rpc_pb2.PutRequest(key=key), rpc_pb2.PutResponse)
        request = rpc_pb2.CompactionRequest(revision=compacted, physical=True)
        check(pair, "KV/Compact", request, rpc_pb2.CompactionResponse)
        check_hashes(pair)
    last = check(pair, "Maintenance/HashKV", rpc_pb2.HashKVRequest(), rpc_pb2.HashKVResponse)
    assert (last.hash_revision, last.compact_revision) == (0, -1)


@pytest.mark.parametrize("urls", [[], ["http://x"], ["bad"], [":"], ["http://127.0.0.1:1", "a b://"], ["http://127.0.0.1:1"]])
def test_an_update_of_an_unknown_member_is_refused_for_its_id(pair: tuple[Member, Member], urls: list[str]) -> None:
    request = rpc_pb2.MemberUpdateRequest(ID=5, peerURLs=urls)
    assert check(pair, "Cluster/MemberUpdate", request, rpc_pb2.MemberUpdateResponse)[1] == "etcdserver: member not found"


@pytest.mark.parametrize("alarm", _UNNAMED)
def test_alarms_of_types_without_a_name_are_raised_listed_and_disarmed(pair: tuple[Member, Member], alarm: int) -> None:
    def ask(action: int) -> Any:
        request = _Alarm(action=action, memberID=3, alarm=alarm)  # type: ignore[arg-type]
        return check(pair, "Maintenance/Alarm", request, rpc_pb2.AlarmResponse)

    assert not ask(_Alarm.GET).alarms
    assert not ask(_Alarm.DEACTIVATE).alarms
    assert len(ask(_Alarm.ACTIVATE).alarms) == len(ask(_Alarm.GET).alarms) == 1
    for member in pair:
        status = asked(member, "Maintenance/Status", rpc_pb2.StatusRequest(), rpc_pb2.StatusResponse)
        assert [re.sub(" +", " ", problem) for problem in status.errors] == [f"memberID:3 alarm:{alarm}"]
        assert f'etcd_debugging_server_alarms{{alarm_type="{alarm}",server_id="3"}} 1' in member.http("/metrics")[1]
    theirs, ours = ([member.http(path) for path in ("/health", f"/health?exclude={alarm}", "/readyz")] for member in pair)
    assert ours == theirs
    check(pair, "KV/Put", rpc_pb2.PutRequest(key=b"a"), rpc_pb2.PutResponse)
    assert len(ask(_Alarm.DEACTIVATE).alarms) == 1
