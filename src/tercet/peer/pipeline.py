"""Sends messages to a member without streams: one POST each, four at a time once the member has answered one.

Used before the first stream is up, after the last one broke, and for members known only by address. A member that does not
answer costs one dial at a time, which lasts seconds if its host drops packets. At most 64 messages and 64 MiB wait; more are
dropped and reported.
"""

from __future__ import annotations

from collections import deque

from tercet.peer.context import Context
from tercet.peer.post import check_answer
from tercet.peer.status import PeerStatus
from tercet.peer.tasks import Tasks
from tercet.peer.url_picker import UrlPicker
from tercet.raft.codec import encode_message
from tercet.raft.types import Message


class Pipeline:
    """`tasks`: the member's, which cancels them."""

    __slots__ = ("_answers", "_context", "_picker", "_queue", "_queued_bytes", "_status", "_tasks", "_workers")

    def __init__(self, context: Context, status: PeerStatus, picker: UrlPicker, tasks: Tasks) -> None:
        self._context = context
        self._status = status
        self._picker = picker
        self._tasks = tasks
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._workers = 0
        self._answers = False  # the last POST was answered

    def send(self, message: Message) -> bool:
        """Queue a message. False if the queue is full: the message is dropped."""
        limits = self._context.limits
        if len(self._queue) >= limits.pipeline_messages_max or self._queued_bytes > limits.pipeline_bytes_max:
            return False
        body = encode_message(message)
        self._queue.append(body)
        self._queued_bytes += len(body)
        self._start_workers()
        return True

    def _start_workers(self) -> None:
        allowed = self._context.limits.pipeline_workers if self._answers else 1
        for _ in range(min(len(self._queue), allowed - self._workers)):
            self._workers += 1
            self._tasks.spawn(self._work(), f"pipeline to {self._status.id:x}")

    async def _work(self) -> None:
        try:
            while self._queue and (self._answers or self._workers == 1):
                body = self._queue.popleft()
                self._queued_bytes -= len(body)
                await self._post(body)
                self._start_workers()
        finally:
            self._workers -= 1

    async def _post(self, body: bytes) -> None:
        origin = self._picker.pick()
        headers = [*self._context.identity.request_headers(), ("Content-Type", "application/protobuf")]
        try:
            answer = await self._context.client.request(
                origin, "POST", "/raft", headers, body, timeout=self._context.limits.post_timeout
            )
            check_answer(answer, self._status.id, self._context)
        except OSError as error:
            self._answers = False
            self._status.sent_failures += 1
            self._status.log_failure("pipeline out", f"{origin.authority}: {error}")
            self._picker.unreachable(origin)
            self._context.unreachable(self._status.id)
        else:
            self._answers = True
            self._status.sent_bytes += len(body)
