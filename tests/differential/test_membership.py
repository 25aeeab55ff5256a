"""Changes of the membership beside a real etcd 3.7: the same refusals, in the same order, of the same unsafe steps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from tercet.proto import rpc_pb2
from tests.differential.twins import refusal
from tests.support.newer import needs_newer_etcd, newer_etcd
from tests.support.processes import STEADY, TERCET, Cluster
from tests.support.waiting import stretched

_UNKNOWN = 0xDEAD
_SETTLED_SECONDS = 5.5  # a peer counts once it has been connected for 5 s


class Asked:
    """One cluster of three, and what it has answered; ids are replaced by names."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.leader = cluster.leader()
        self.follower = cluster.others(self.leader)[0]
        self.other = cluster.others(self.leader)[1]
        self.names = {one.ID: one.name for one in self.leader.client.members()}
        self.transcript: list[Any] = []

    def id(self, name: str) -> int:
        roles = {"leader": self.leader, "follower": self.follower, "other": self.other}
        if name in roles:
            name = roles[name].name
        return next((member_id for member_id, known in self.names.items() if known == name), _UNKNOWN)

    def _call(self, method: str, request: Any, answer: Any) -> Any:
        try:
            return self.leader.client.call(f"Cluster/{method}", request, answer, 15)
        except grpc.RpcError as error:
            self.transcript.append((method, refusal(error)))
            return None

    def _took(self, method: str, members: Any) -> None:
        shown = sorted((self.names.get(one.ID, "?"), one.isLearner, len(one.peerURLs)) for one in members)
        roles = {self.leader.name: "leader", self.follower.name: "follower", self.other.name: "other"}
        self.transcript.append((method, sorted((roles.get(name, name), *more) for name, *more in shown)))

    def add(self, name: str, *urls: str, learner: bool = False) -> None:
        request = rpc_pb2.MemberAddRequest(peerURLs=urls, isLearner=learner)
        answer = self._call("MemberAdd", request, rpc_pb2.MemberAddResponse)
        if answer is not None:
            self.names[answer.member.ID] = name
            assert list(answer.member.peerURLs) == sorted(url.strip().replace("HTTP:", "http:") for url in urls)
            self._took("MemberAdd", answer.members)

    def remove(self, name: str) -> None:
        answer = self._call("MemberRemove", rpc_pb2.MemberRemoveRequest(ID=self.id(name)), rpc_pb2.MemberRemoveResponse)
        if answer is not None:
            self._took("MemberRemove", answer.members)

    def promote(self, name: str) -> None:
        answer = self._call("MemberPromote", rpc_pb2.MemberPromoteRequest(ID=self.id(name)), rpc_pb2.MemberPromoteResponse)
        if answer is not None:
            self._took("MemberPromote", answer.members)

    def update(self, name: str, *urls: str) -> None:
        request = rpc_pb2.MemberUpdateRequest(ID=self.id(name), peerURLs=urls)
        answer = self._call("MemberUpdate", request, rpc_pb2.MemberUpdateResponse)
        if answer is not None:
            self._took("MemberUpdate", answer.members)


def story(asked: Asked) -> None:
    """The same for both kinds. No added member is started."""
    taken = f"http://127.0.0.1:{asked.follower.peer_port}"
    for urls in ([], [""], ["foo"], ["http://a"], ["http://a:1/path"], ["ftp://a:1"], ["http://:x"], [taken]):
        asked.add("bad", *urls)
    for name in ("nobody", "follower"):
        asked.promote(name)
    asked.remove("nobody")
    asked.update("nobody", "http://127.0.0.1:1")
    asked.update("other", taken)
    asked.add("learner", "http://127.0.0.1:1", learner=True)
    asked.add("second learner", "HTTP://127.0.0.1:2", learner=True)
    asked.promote("learner")
    asked.add("twin", "http://127.0.0.1:1")
    asked.update("learner", "http://127.0.0.1:3")
    asked.add("fourth", " http://127.0.0.1:4 ", "http://127.0.0.1:5")
    asked.add("fifth", "http://127.0.0.1:6")
    asked.add("sixth", "http://127.0.0.1:7")
    asked.remove("fourth")
    asked.remove("fourth")
    asked.remove("fifth")
    asked.remove("learner")
    asked.remove("sixth")
    asked.other.kill()
    time.sleep(stretched(1))
    asked.add("with one down", "http://127.0.0.1:8")
    asked.remove("follower")
    asked.remove("leader")
    asked.remove("other")
    asked.remove("follower")


@pytest.mark.server_process
@needs_newer_etcd
def test_each_change_is_answered_as_by_etcd(tmp_path: Path) -> None:
    names = ("n1", "n2", "n3")
    clusters = [
        Cluster.plan(tmp_path / kind, names, STEADY, programs=dict.fromkeys(names, program))
        for kind, program in (("tercet", TERCET), ("newer", newer_etcd()))
    ]
    try:
        both = [Asked(cluster.start()) for cluster in clusters]
        time.sleep(stretched(_SETTLED_SECONDS))
        for asked in both:
            story(asked)
        ours, theirs = (asked.transcript for asked in both)
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert one == other, f"step {number}\n--- tercet ---\n{one}\n--- etcd ---\n{other}"
    finally:
        for cluster in clusters:
            cluster.dispose()
