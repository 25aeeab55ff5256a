"""The peer listener's endpoints beside /raft: members, versions, hashes, and what is forwarded to the leader.

    GET  /members                   the members known to this one
    POST /members/promote/<id>      make a learner a voter (forwarded to the leader)
    GET  /members/hashkv            {"revision":N} -> the hash of the store at N
    POST /leases                    LeaseKeepAliveRequest, answered by the leader
    POST /leases/internal           LeaseInternalRequest, answered by the leader
    GET  /version                   etcdserver, etcdcluster, storage
    GET  /downgrade/enabled         true or false

The answers come from `MemberApi`; this module does the HTTP part: methods, bodies, statuses and etcd's error texts.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

from google.protobuf.message import DecodeError

from tercet import errors
from tercet.errors import StatusError, strip_traceback
from tercet.http1.messages import TextHeaders
from tercet.http1.server import BodyError, BodyTooLarge, Request, Response, json_response, text_response
from tercet.proto import internal_pb2, rpc_pb2
from tercet.proto.wire import paste_field

logger = logging.getLogger(__name__)

MemberJson = dict[str, Any]

_BODY_BYTES_MAX: Final = 64 << 10
_PROMOTE: Final = "/members/promote/"
_LEASES: Final = ("/leases", "/leases/internal")
_ID_MAX: Final = (1 << 64) - 1
_PROTOBUF: Final = ("Content-Type", "application/protobuf")


class NotPrimaryLessor(Exception):
    """The lease request reached a member that is not the leader."""


class MemberApi(Protocol):
    """The owner's side. Each method may raise StatusError, whose text is the answer."""

    def members(self) -> Sequence[MemberJson]:
        """By ascending id: id, peerURLs, and isLearner, name, clientURLs where they are set."""

    def versions(self) -> dict[str, str]:
        """etcdserver, etcdcluster, storage."""

    async def downgrade_enabled(self) -> bool:
        """As of a linearizable read."""

    async def promote(self, id: int, authorization: str) -> Sequence[MemberJson]:
        """`authorization`: the client's token, or empty."""

    async def hash_kv(self, revision: int) -> rpc_pb2.HashKVResponse: ...

    async def renew_lease(self, id: int) -> rpc_pb2.LeaseKeepAliveResponse:
        """Raises NotPrimaryLessor too."""

    async def lease_time_to_live(self, request: rpc_pb2.LeaseTimeToLiveRequest) -> bytes:
        """An encoded LeaseTimeToLiveResponse. Raises NotPrimaryLessor too."""


class MemberEndpoints:
    """Serves the paths listed above."""

    def __init__(self, cluster_id: int, api: MemberApi) -> None:
        self._api = api
        self._cluster_id = f"{cluster_id:x}"
        self._cluster: TextHeaders = [("X-Etcd-Cluster-ID", self._cluster_id)]
        self._routes: dict[str, tuple[str, Callable[[Request], Coroutine[Any, Any, Response]]]] = {
            "/members": ("GET", self._members),
            "/members/hashkv": ("GET", self._hash_kv),
            "/leases": ("POST", self._renew_lease),
            "/leases/internal": ("POST", self._lease_time_to_live),
            "/version": ("GET", self._version),
            "/downgrade/enabled": ("GET", self._downgrade_enabled),
        }

    async def answer(self, request: Request) -> Response | None:
        """The response, None for a path that is not served here."""
        method: str
        route: Callable[[Request], Coroutine[Any, Any, Response]]
        if request.path.startswith(_PROMOTE):
            method, route = "POST", self._promote
        elif request.path in self._routes:
            method, route = self._routes[request.path]
        else:
            return None
        if request.method != method:
            return text_response(405, "Method Not Allowed", [("Allow", method)])
        try:
            return await route(request)
        except BodyTooLarge as error:
            if request.path in _LEASES:
                return text_response(413, "request body too large")
            return text_response(400, f"error reading body: {error}")
        except BodyError as error:
            return text_response(400, f"error reading body: {error}")

    async def _members(self, request: Request) -> Response:
        return json_response(encode_members(self._api.members()), self._cluster)

    async def _promote(self, request: Request) -> Response:
        id_text = request.path[len(_PROMOTE) :]
        if not (id_text.isascii() and id_text.isdigit() and len(id_text) <= 20 and int(id_text) <= _ID_MAX):
            return text_response(404, f"member {id_text[:80]} not found in cluster", self._cluster)
        try:
            members = await self._api.promote(int(id_text), request.headers.get("authorization", ""))
        except StatusError as error:
            strip_traceback(error)
            if error.message == errors.MEMBER_NOT_FOUND.message:
                return text_response(404, "membership: ID not found", self._cluster)
            known = (errors.LEARNER_NOT_READY.message, errors.LEARNER_ONLY.message)
            if error.message in known:
                return text_response(412, error.message, self._cluster)
            return text_response(500, error.message, self._cluster)
        return json_response(encode_members(members), self._cluster)

    async def _hash_kv(self, request: Request) -> Response:
        theirs = request.headers.get("x-etcd-cluster-id")
        if theirs is not None and theirs != self._cluster_id:
            return text_response(412, "cluster ID mismatch")
        try:
            revision = json.loads(await request.body.read(_BODY_BYTES_MAX))["revision"]
            if type(revision) is not int or not -(1 << 63) <= revision < 1 << 63:
                raise ValueError(revision)
        except (ValueError, KeyError, TypeError, RecursionError):
            return text_response(400, "error unmarshalling request")
        try:
            answer = await self._api.hash_kv(revision)
        except StatusError as error:
            # mvcc's own texts, without the prefix that gRPC clients get.
            return text_response(400, strip_traceback(error).message.removeprefix("etcdserver: "))
        return json_response(encode_hash_kv(answer), self._cluster)

    async def _renew_lease(self, request: Request) -> Response:
        body = await request.body.read(_BODY_BYTES_MAX)
        try:
            lease = rpc_pb2.LeaseKeepAliveRequest.FromString(body).ID
        except DecodeError:
            return text_response(400, "error unmarshalling request")
        try:
            answer = await self._api.renew_lease(lease)
        except NotPrimaryLessor:
            return text_response(400, "not a primary lessor")
        except StatusError as error:
            return _lease_error(error, other=400)
        return Response(200, answer.SerializeToString(), [_PROTOBUF])

    async def _lease_time_to_live(self, request: Request) -> Response:
        body = await request.body.read(_BODY_BYTES_MAX)
        try:
            wanted = internal_pb2.LeaseInternalRequest.FromString(body)
        except DecodeError:
            return text_response(400, "error unmarshalling request")
        try:
            answer = await self._api.lease_time_to_live(wanted.LeaseTimeToLiveRequest)
        except NotPrimaryLessor:
            return text_response(500, "not a primary lessor")
        except StatusError as error:
            return _lease_error(error, other=500)
        return Response(200, paste_field(1, answer), [_PROTOBUF])  # a LeaseInternalResponse

    async def _version(self, request: Request) -> Response:
        return json_response(_compact(self._api.versions()))

    async def _downgrade_enabled(self, request: Request) -> Response:
        try:
            text = b"true" if await self._api.downgrade_enabled() else b"false"
        except StatusError as error:
            return text_response(500, f"failed linearized read: {strip_traceback(error).message}", self._cluster)
        return Response(200, text, [("Content-Type", "text/plain"), *self._cluster])


def encode_members(members: Sequence[MemberJson]) -> bytes:
    return _compact(members) + b"\n"


def encode_hash_kv(answer: rpc_pb2.HashKVResponse) -> bytes:
    """As Go encodes the message: snake case, zeros omitted."""
    header = answer.header
    fields = {
        "header": _set_only(
            cluster_id=header.cluster_id, member_id=header.member_id, revision=header.revision, raft_term=header.raft_term
        ),
        **_set_only(hash=answer.hash, compact_revision=answer.compact_revision, hash_revision=answer.hash_revision),
    }
    return _compact(fields)


def _set_only(**fields: int) -> dict[str, int]:
    return {name: value for name, value in fields.items() if value}


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _lease_error(error: StatusError, *, other: int) -> Response:
    strip_traceback(error)
    if error.message == errors.LEASE_NOT_FOUND.message:
        return text_response(404, "lease not found")
    if error is errors.TIMEOUT_WAIT_APPLIED:
        return text_response(408, "waiting for node to catch up its applied index has timed out")
    return text_response(other, error.message)
