"""Queries to other members outside of replication: before there is a transport, and for what only the leader can do.

A query tries a list of peer URLs in order and takes the first usable answer. Retrying over time is for the caller.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from tercet import errors
from tercet.errors import TercetError
from tercet.http1.client import RESPONSE_BYTES_MAX, Answer, DialTls, HttpClient, ResponseTooLarge
from tercet.http1.origin import parse_origin
from tercet.log_fields import fields
from tercet.peer.headers import parse_id
from tercet.peer.member_endpoints import MemberJson, NotPrimaryLessor
from tercet.proto import internal_pb2, rpc_pb2
from tercet.proto.wire import decode_varint

logger = logging.getLogger(__name__)

LEASE_BYTES_MAX: Final = 32 << 20
"""Of an answer with all keys of a lease. Each copy of it is a long step of the event loop."""

_PARSED_BYTES_MAX: Final = 64 << 10
_PROTOBUF: Final = ("Content-Type", "application/protobuf")

LEASE_KEYS_TOO_LARGE: Final = errors.RequestError(
    errors.Code.RESOURCE_EXHAUSTED, "etcdserver: the lease has too many keys for another member to list; ask the leader"
)


class NoAnswer(TercetError):
    """No member gave a usable answer; the text says how each one failed."""


class ClusterView(NamedTuple):
    """A cluster as one of its members sees it. `members`: the JSON of /members."""

    cluster_id: int
    members: list[MemberJson]


class PeerClient:
    """An async context manager: `async with PeerClient(tls) as peers`. `timeout` is for each request to each URL."""

    def __init__(
        self,
        tls: DialTls | None = None,
        *,
        timeout: float = 5.0,
        local_address: str = "",
        reaches: Callable[[str], bool] | None = None,
    ) -> None:
        self._client = HttpClient(
            tls, dial_timeout=timeout, handshake_timeout=timeout, local_address=local_address, reaches=reaches
        )
        self._timeout = timeout

    async def __aenter__(self) -> PeerClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        await self._client.close()

    async def members(self, urls: Sequence[str]) -> ClusterView:
        """GET /members. Raises NoAnswer, also if every answer lacks members or a cluster id."""
        failures: list[str] = []
        for url in urls:
            try:
                answer = await self._get(url, "/members")
                members = _parse_members(answer)
                cluster = parse_id(answer.headers.get("x-etcd-cluster-id"))
            except (OSError, ValueError) as error:
                failures.append(f"{url}: {error}")
                continue
            if members and cluster:
                return ClusterView(cluster, members)
            failures.append(f"{url}: no members, or no cluster id")
        raise NoAnswer("could not retrieve cluster information from the given URLs: " + _join(failures))

    async def versions(self, urls: Sequence[str]) -> dict[str, str]:
        """GET /version of one member, at any of its URLs: etcdserver, etcdcluster and more. Raises NoAnswer."""
        failures: list[str] = []
        for url in urls:
            try:
                answer = await self._get(url, "/version")
                fields = _expect_json(answer, dict)
            except (OSError, ValueError) as error:
                failures.append(f"{url}: {error}")
                continue
            return {str(name): value for name, value in fields.items() if isinstance(value, str)}
        raise NoAnswer("no version: " + _join(failures))

    async def versions_of(self, members: Mapping[int, Sequence[str]]) -> dict[int, dict[str, str] | None]:
        """`versions` of many members at once; None for a member without an answer, which is logged."""

        async def one(member_id: int, urls: Sequence[str]) -> dict[str, str] | None:
            try:
                return await self.versions(urls)
            except NoAnswer as error:
                shown = fields(remote_member_id=f"{member_id:x}", error=str(error))
                logger.warning("failed to get version", extra=shown)
                return None

        answers = await asyncio.gather(*(one(member_id, urls) for member_id, urls in members.items()))
        return dict(zip(members, answers, strict=True))

    async def downgrade_enabled(self, urls: Sequence[str]) -> bool:
        """GET /downgrade/enabled. Raises NoAnswer."""
        failures: list[str] = []
        for url in urls:
            try:
                answer = await self._get(url, "/downgrade/enabled")
            except (OSError, ValueError) as error:
                failures.append(f"{url}: {error}")
                continue
            if answer.status == 200 and answer.text in ("true", "false"):
                return answer.text == "true"
            failures.append(f"{url}: status {answer.status} {answer.text[:80]}")
        raise NoAnswer("no downgrade status: " + _join(failures))

    async def hash_kv(self, url: str, revision: int, cluster_id: int) -> rpc_pb2.HashKVResponse:
        """GET /members/hashkv of one member. Raises RequestError (compacted, future revision), NoAnswer."""
        body = json.dumps({"revision": revision}, separators=(",", ":")).encode()
        headers = [("X-Etcd-Cluster-ID", f"{cluster_id:x}"), ("Content-Type", "application/json")]
        try:
            answer = await self._client.request(
                parse_origin(url), "GET", "/members/hashkv", headers, body, timeout=self._timeout
            )
            for known in (errors.COMPACTED, errors.FUTURE_REVISION):
                if answer.status == 400 and answer.text in known.message:
                    raise known
            return _parse_hash_kv(_expect_json(answer, dict))
        except (OSError, ValueError, TypeError) as error:
            raise NoAnswer(f"no hash from {url}: {error}") from error

    async def promote(self, urls: Sequence[str], id: int, authorization: str = "") -> list[MemberJson]:
        """POST /members/promote/<id>, to the leader. Raises StatusError with etcd's code and text, NoAnswer."""
        headers = [("Authorization", authorization)] if authorization else []
        failures: list[str] = []
        for url in urls:
            try:
                answer = await self._post(url, f"/members/promote/{id}", b"", headers)
                if answer.status == 200:
                    return _parse_members(answer)
            except (OSError, ValueError) as error:
                failures.append(f"{url}: {error}")
                continue
            for status, part, known in (
                (412, errors.LEARNER_NOT_READY.message, errors.LEARNER_NOT_READY),
                (412, errors.LEARNER_ONLY.message, errors.LEARNER_ONLY),
                (404, "membership: ID not found", errors.MEMBER_NOT_FOUND),
            ):
                if answer.status == status and part in answer.text:
                    raise known
            failures.append(f"{url}: status {answer.status} {answer.text[:200]}")
        raise NoAnswer("learner not promoted: " + _join(failures))

    async def renew_lease(self, urls: Sequence[str], id: int) -> rpc_pb2.LeaseKeepAliveResponse:
        """POST /leases, to the leader. Raises LEASE_NOT_FOUND, TIMEOUT_WAIT_APPLIED, NotPrimaryLessor, NoAnswer."""
        body = rpc_pb2.LeaseKeepAliveRequest(ID=id).SerializeToString()
        answer = await self._lease(urls, "/leases", body)
        try:
            return rpc_pb2.LeaseKeepAliveResponse.FromString(answer)
        except DecodeError as error:
            raise NoAnswer(f"lease {id:x}: malformed answer") from error

    async def lease_time_to_live(self, urls: Sequence[str], request: rpc_pb2.LeaseTimeToLiveRequest) -> bytes:
        """POST /leases/internal, to the leader. Returns an encoded LeaseTimeToLiveResponse without header.

        Raises as `renew_lease` does, and LEASE_KEYS_TOO_LARGE.
        """
        body = internal_pb2.LeaseInternalRequest(LeaseTimeToLiveRequest=request).SerializeToString()
        answer = await self._lease(urls, "/leases/internal", body)
        if len(answer) > _PARSED_BYTES_MAX:
            return _cut_time_to_live(answer)
        try:
            found = internal_pb2.LeaseInternalResponse.FromString(answer).LeaseTimeToLiveResponse
        except DecodeError as error:
            raise NoAnswer(f"lease {request.ID:x}: malformed answer") from error
        found.ClearField("header")
        return found.SerializeToString()

    async def _lease(self, urls: Sequence[str], path: str, body: bytes) -> bytes:
        failures: list[str] = []
        for url in urls:
            try:
                answer = await self._post(url, path, body, [_PROTOBUF], LEASE_BYTES_MAX)
            except ResponseTooLarge:
                raise LEASE_KEYS_TOO_LARGE from None
            except (OSError, ValueError) as error:
                failures.append(f"{url}: {error}")
                continue
            if answer.status == 200:
                return answer.body
            if answer.status == 404 and "lease not found" in answer.text:
                raise errors.LEASE_NOT_FOUND
            if answer.status == 408:
                raise errors.TIMEOUT_WAIT_APPLIED
            if "not a primary lessor" in answer.text:
                raise NotPrimaryLessor
            failures.append(f"{url}: status {answer.status} {answer.text[:200]}")
        raise NoAnswer("the lease could not be forwarded: " + _join(failures))

    async def _get(self, url: str, path: str) -> Answer:
        return await self._client.request(parse_origin(url), "GET", path, [], timeout=self._timeout)

    async def _post(
        self, url: str, path: str, body: bytes, headers: list[tuple[str, str]], bytes_max: int = RESPONSE_BYTES_MAX
    ) -> Answer:
        return await self._client.request(
            parse_origin(url), "POST", path, headers, body, timeout=self._timeout, response_bytes_max=bytes_max
        )


def _cut_time_to_live(answer: bytes) -> bytes:
    """The response in a LeaseInternalResponse, without its header. A million keys would take long to parse. Raises NoAnswer."""
    size, start = _field_1(answer, 0)
    if start < 0 or start + size != len(answer):
        raise NoAnswer("malformed answer")
    header, after = _field_1(answer, start)
    return answer[start:] if after < 0 else answer[after + header :]


def _field_1(data: bytes, at: int) -> tuple[int, int]:
    """The size of the message in field 1, whose tag is at `at`, and where it begins; -1 if there is none."""
    end = at + 1
    while end < len(data) and data[end] >= 0x80:
        end += 1
    end += 1
    if data[at : at + 1] != b"\x0a" or end > len(data):
        return 0, -1
    return decode_varint(data[at + 1 : end]), end


def _expect_json(answer: Answer, kind: type[Any]) -> Any:
    """The JSON body of a 200, of type `kind`. Raises ValueError."""
    if answer.status != 200:
        raise ValueError(f"status {answer.status} {answer.text[:200]}")
    try:
        value = json.loads(answer.body)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    if not isinstance(value, kind):
        raise ValueError(f"unexpected JSON: {answer.text[:80]}")
    return value


def _parse_members(answer: Answer) -> list[MemberJson]:
    """The members of an answer, checked: ids and peer URLs are present, every known field has its type. Raises ValueError."""
    members: list[MemberJson] = _expect_json(answer, list)
    for member in members:
        if not isinstance(member, dict):
            raise ValueError("a member is not an object")
        number = member.get("id")
        if type(number) is not int or not 0 < number < 1 << 64:
            raise ValueError(f"bad member id {number!r}")
        for name in ("peerURLs", "clientURLs"):
            urls = member.get(name) or []
            if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
                raise ValueError(f"bad {name} of member {number:x}")
            if name in member or name == "peerURLs":
                member[name] = urls
        if not isinstance(member.get("name", ""), str) or not isinstance(member.get("isLearner", False), bool):
            raise ValueError(f"bad name or isLearner of member {number:x}")
    return members


def _parse_hash_kv(fields: dict[str, Any]) -> rpc_pb2.HashKVResponse:
    """Raises ValueError, TypeError."""
    header = fields.get("header") or {}
    if not isinstance(header, dict):
        raise ValueError("bad header")
    return rpc_pb2.HashKVResponse(
        header=rpc_pb2.ResponseHeader(
            **{name: header.get(name, 0) for name in ("cluster_id", "member_id", "revision", "raft_term")}
        ),
        hash=fields.get("hash", 0),
        compact_revision=fields.get("compact_revision", 0),
        hash_revision=fields.get("hash_revision", 0),
    )


def _join(failures: Sequence[str]) -> str:
    return "; ".join(failures) or "no URLs"
