"""The endpoints under /raft, by which members replicate, with etcd's checks in etcd's order and words.

    POST /raft                        one message
    POST /raft/snapshot               a MsgSnap and its database
    GET  /raft/stream/message/<id>    the message stream, to <id>
    GET  /raft/stream/msgapp/<id>     the append stream, to <id>
    GET  /raft/probing                liveness, and the time

The cluster is checked before the member: one of another cluster that was answered "removed" would stop for good.
"""

from __future__ import annotations

import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

from tercet.gotext.duration import format_seconds
from tercet.http1.messages import TextHeaders
from tercet.http1.server import BodyError, Request, Response, StreamResponse, text_response
from tercet.intake import intake_of_running_loop
from tercet.log_fields import fields
from tercet.peer.context import Context
from tercet.peer.frames import FrameError
from tercet.peer.headers import is_compatible, parse_id
from tercet.peer.message_stream import parse_message
from tercet.peer.peer import Peer
from tercet.peer.prober import probe_answer
from tercet.peer.snapshot_receiver import BodyReader, read_envelope, save_database
from tercet.peer.status import Receptions
from tercet.raft.types import Message, MessageType

logger = logging.getLogger(__name__)

_STREAMS: Final = "/raft/stream/"
_WORK_SHIFT: Final = 6  # of a turn, for each 64 bytes to decode
_RECEPTIONS_MAX: Final = 16  # snapshots being received at the same time; a sender's limit is the same


class Directory(Protocol):
    """The members known here."""

    def peer(self, id: int) -> Peer | None: ...

    def learn_remote(self, id: int, urls: Sequence[str]) -> None: ...


class RaftEndpoints:
    """Serves the paths listed above."""

    def __init__(self, context: Context, directory: Directory) -> None:
        self._context = context
        self._directory = directory
        self._cluster: TextHeaders = [("X-Etcd-Cluster-ID", f"{context.identity.cluster_id:x}")]
        self._intake = intake_of_running_loop()
        self._posts_bytes = 0
        self._receptions = 0
        self.receptions: defaultdict[int, Receptions] = defaultdict(Receptions)  # by sender; 0: not known

    async def answer(self, request: Request) -> Response | StreamResponse | None:
        """The response, None for a path that is not served here."""
        path = request.path
        if path == "/raft":
            return await self._post(request, self._message)
        if path == "/raft/snapshot":
            return await self._post(request, self._snapshot)
        if path.startswith(_STREAMS):
            return self._stream(request)
        if path == "/raft/probing":
            return Response(200, probe_answer(time.time_ns()), [("Content-Type", "text/plain; charset=utf-8")])
        return None

    async def _post(self, request: Request, take: Callable[[Request], Coroutine[Any, Any, Response]]) -> Response:
        if request.method != "POST":
            return method_not_allowed("POST")
        refusal = self._wrong_cluster(request)
        if refusal is None:
            self._learn_remote(request, parse_id(request.headers.get("x-server-from")))
            refusal = await take(request)
        return refusal._replace(headers=[*refusal.headers, *self._cluster])

    def _wrong_cluster(self, request: Request) -> Response | None:
        """The checks that all endpoints but probing share."""
        identity = self._context.identity
        sender = request.headers.get("x-server-from", "?")[:16]
        if not is_compatible(request.headers, identity.version):
            logger.warning(
                "refused a request from %s: incompatible version %s", sender, request.headers.get("x-server-version", "")[:20]
            )
            return text_response(412, "incompatible version")
        if request.headers.get("x-etcd-cluster-id") != f"{identity.cluster_id:x}":
            cluster = request.headers.get("x-etcd-cluster-id", "")[:20]
            logger.warning("refused a request from %s: it belongs to another cluster, %s", sender, cluster)
            return text_response(412, "cluster ID mismatch")
        return None

    def _learn_remote(self, request: Request, sender: int | None) -> None:
        urls = request.headers.get("x-peerurls")
        if sender is not None and urls:
            self._directory.learn_remote(sender, urls.split(","))

    async def _message(self, request: Request) -> Response:
        try:
            body = await self._read_post(request)
        except BodyError as error:
            logger.warning("failed to read a raft message: %s", error)
            return text_response(400, "error reading raft message")
        await self._intake.admitted(len(body) >> _WORK_SHIFT)
        try:
            message = parse_message(body)
        except FrameError as error:
            logger.warning("failed to decode a raft message: %s", error)
            return text_response(400, "error unmarshalling raft message")
        try:
            reason = self._context.accept(message)
        except Exception as error:
            logger.error("failed to process a raft message: %s: %s", type(error).__name__, error)
            return text_response(500, "error processing raft message")
        if reason is not None:
            return _forbidden(reason, message)
        peer = self._directory.peer(message.from_)
        if peer is not None:
            peer.status.received_bytes += len(body)
        return Response(204)

    async def _read_post(self, request: Request) -> bytes:
        """The body. All bodies that are being read share one limit. Raises BodyError."""
        limits = self._context.limits
        chunks: list[bytes] = []
        total = 0
        try:
            while chunk := await request.body.chunk():
                total += len(chunk)
                self._posts_bytes += len(chunk)
                if total > limits.post_bytes_max or self._posts_bytes > limits.posts_bytes_max:
                    raise BodyError(f"message exceeds the limit after {total} bytes")
                chunks.append(chunk)
        finally:
            self._posts_bytes -= total
        return b"".join(chunks)

    async def _snapshot(self, request: Request) -> Response:
        reader = BodyReader(request.body)
        try:
            message = parse_message(await read_envelope(reader, self._context.limits.envelope_bytes_max))
        except (BodyError, FrameError) as error:
            return self._snapshot_failed(0, 400, f"failed to decode raft message ({error})")
        sender = message.from_ if self._directory.peer(message.from_) is not None else 0  # others could be any number of ids
        if message.type != MessageType.SNAP or message.snapshot is None:
            return self._snapshot_failed(sender, 400, "wrong raft message type")
        reason = self._context.refusal(message)  # before its database fills our disk
        if reason is not None:
            return _forbidden(reason, message)
        if self._receptions >= _RECEPTIONS_MAX:
            return self._snapshot_failed(sender, 500, "failed to save KV snapshot (too many at a time)")
        self._receptions += 1
        receptions = self.receptions[sender]
        receptions.in_flight += 1
        began = time.monotonic()
        shown: dict[str, object] = {
            "local-member-id": f"{message.to:x}",
            "remote-snapshot-sender-id": f"{message.from_:x}",
            "incoming-snapshot-index": message.snapshot.index,
        }
        logger.info("receiving database snapshot", extra=fields(shown))
        try:
            saved = await save_database(reader, self._context.snapshot_directory, message.snapshot.index)
        except (BodyError, OSError) as error:
            return self._snapshot_failed(sender, 500, f"failed to save KV snapshot ({error})")
        finally:
            self._receptions -= 1
            receptions.in_flight -= 1
        seconds = time.monotonic() - began
        receptions.took(seconds, sync_seconds=saved.sync_seconds)
        took = fields(shown, incoming_snapshot_size_bytes=saved.size, download_took=format_seconds(seconds))
        logger.info("received and saved database snapshot", extra=took)
        reason = self._context.accept(message)
        return _forbidden(reason, message) if reason is not None else Response(204)

    def _snapshot_failed(self, sender: int, status: int, text: str) -> Response:
        self.receptions[sender].failed += 1
        logger.warning("failed to receive a snapshot: %s", text)
        return text_response(status, text)

    def _stream(self, request: Request) -> Response | StreamResponse:
        if request.method != "GET":
            return method_not_allowed("GET")
        own: TextHeaders = [("X-Server-Version", self._context.identity.version), *self._cluster]
        refusal = self._wrong_cluster(request)
        if refusal is None:
            found = self._find_stream(request)
            if not isinstance(found, Response):
                peer, kind = found
                return StreamResponse(own, lambda transport: peer.attach(kind, transport))
            refusal = found
        return refusal._replace(headers=[*refusal.headers, *own])

    def _find_stream(self, request: Request) -> tuple[Peer, str] | Response:
        kind, slash, id_text = request.path[len(_STREAMS) :].partition("/")
        if kind not in ("message", "msgapp") or not slash or "/" in id_text:
            return text_response(404, "invalid path")
        sender = parse_id(id_text)
        if sender is None:
            return text_response(404, "invalid from")
        if self._context.is_removed(sender):
            shown = fields(remote_peer_id_from=f"{sender:x}")
            logger.warning("rejected stream from remote peer because it was removed", extra=shown)
            return text_response(410, "removed member")
        peer = self._directory.peer(sender)
        if peer is None:
            self._learn_remote(request, sender)
            return text_response(404, "error sender not found")
        if request.headers.get("x-raft-to") != f"{self._context.identity.id:x}":
            target = request.headers.get("x-raft-to", "")[:20]
            logger.warning("refused a stream request from %x: it is for another member, %s", sender, target)
            return text_response(412, "to field mismatch")
        return peer, kind


def method_not_allowed(*allowed: str) -> Response:
    return text_response(405, "Method Not Allowed", [("Allow", ", ".join(allowed))])


def _forbidden(reason: str, message: Message) -> Response:
    logger.warning("%s: from %x to %x", reason, message.from_, message.to)
    body = json.dumps({"message": reason}, separators=(",", ":")).encode()
    return Response(403, body, [("Content-Type", "application/json")])
