"""A watch stream of a real client (grpcio), for comparing what two members send."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import grpc  # type: ignore[import-untyped]

from tercet.proto import rpc_pb2
from tests.support.client import Client
from tests.support.waiting import scaled

Create = rpc_pb2.WatchCreateRequest
Response = rpc_pb2.WatchResponse
Request = rpc_pb2.WatchRequest


class Stream:
    """Responses are collected by a thread; their headers are reduced to the revision."""

    def __init__(self, client: Client, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._requests: queue.Queue[Request | None] = queue.Queue()
        self._responses: queue.Queue[Response | tuple[int, str]] = queue.Queue()
        method = client.channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=Request.SerializeToString,
            response_deserializer=Response.FromString,
        )
        self._call = method(self._sent(), metadata=metadata)
        self._backlog: list[Response | tuple[int, str]] = []
        threading.Thread(target=self._collect, daemon=True).start()

    def send(self, request: Request) -> None:
        self._requests.put(request)

    def create(self, create: Create) -> None:
        self.send(Request(create_request=create))

    def cancel(self, watch_id: int) -> None:
        self.send(Request(cancel_request=rpc_pb2.WatchCancelRequest(watch_id=watch_id)))

    def ask_progress(self) -> None:
        self.send(Request(progress_request=rpc_pb2.WatchProgressRequest()))

    def next(self, seconds: float = 10) -> Any:
        """The next Response; or (code, text), once the stream has ended."""
        return self._responses.get(timeout=scaled(seconds))

    def await_created(self) -> None:
        """Wait for the answer to a create; `until_marked` will return it, and what came before it."""
        while True:
            response = self.next()
            self._backlog.append(response)
            if isinstance(response, tuple) or response.created:
                return

    def until_marked(self, marker: bytes) -> list[Response | tuple[int, str]]:
        """All responses before the first event of the key `marker`, which some watch of the stream must see."""
        got, self._backlog = self._backlog, []
        while True:
            response = self.next()
            if isinstance(response, tuple):
                return [*got, response]
            if any(event.kv.key == marker for event in response.events):
                return got
            got.append(response)

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()

    def _sent(self) -> Iterator[Request]:
        while (request := self._requests.get()) is not None:
            yield request

    def _collect(self) -> None:
        try:
            for response in self._call:
                response.header.CopyFrom(rpc_pb2.ResponseHeader(revision=response.header.revision))
                self._responses.put(response)
        except grpc.RpcError as error:
            failed: Any = error
            self._responses.put((failed.code().value[0], failed.details()))
