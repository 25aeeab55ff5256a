"""grpc.health.v1: the status of the whole server, under the empty service name; no other name is known.

The server is SERVING while it runs. With the feature gate StopGRPCServiceOnDefrag it is NOT_SERVING while a defragmentation
runs, so that clients that check health turn to other members.
"""

from __future__ import annotations

import asyncio
import logging

from google.protobuf.message import DecodeError

from tercet.errors import Code, RequestError
from tercet.intake import TASK_WORK, intake_of_running_loop
from tercet.log_fields import fields
from tercet.proto import health_pb2
from tercet.rpc import Handler, ServerStream, UnaryCall, server_stream, unary, unmarshal_streamed
from tercet.services.kv import refuse

logger = logging.getLogger(__name__)
_UNKNOWN_SERVICE = RequestError(Code.NOT_FOUND, "unknown service")


def _encoded(status: health_pb2.HealthCheckResponse.ServingStatus.ValueType) -> bytes:
    return health_pb2.HealthCheckResponse(status=status).SerializeToString()


_SERVING = _encoded(health_pb2.HealthCheckResponse.SERVING)
_NOT_SERVING = _encoded(health_pb2.HealthCheckResponse.NOT_SERVING)
_SERVICE_UNKNOWN = _encoded(health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)


class HealthService:
    """Liveness of the gRPC server. Whether the cluster can commit is the question of /readyz."""

    def __init__(self) -> None:
        self._status = _SERVING
        self._intake = intake_of_running_loop()
        self._changed: asyncio.Future[None] | None = None  # resolved by the next change, if a watcher waits for it

        _log_status("SERVING")

    def handlers(self) -> dict[str, Handler]:
        return {
            "/grpc.health.v1.Health/Check": unary(self.check),
            "/grpc.health.v1.Health/List": unary(self.list),
            "/grpc.health.v1.Health/Watch": server_stream(self.watch),
        }

    def defragmenting(self, is_running: bool) -> None:
        """A defragmentation begins or ends."""
        self._status = _NOT_SERVING if is_running else _SERVING
        _log_status("NOT_SERVING" if is_running else "SERVING")
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set_result(None)

    def check(self, call: UnaryCall, body: bytes) -> None:
        try:
            if health_pb2.HealthCheckRequest.FromString(body).service:
                raise _UNKNOWN_SERVICE
        except (DecodeError, RequestError) as error:
            refuse(call, error)
            return
        call.reply(self._status)

    def list(self, call: UnaryCall, body: bytes) -> None:
        status = health_pb2.HealthCheckResponse.FromString(self._status)
        call.reply(health_pb2.HealthListResponse(statuses={"": status}).SerializeToString())

    async def watch(self, stream: ServerStream) -> None:
        """Sends the status and each change of it, until the client ends the call."""
        request = unmarshal_streamed(health_pb2.HealthCheckRequest.FromString, await stream.receive_one())
        if request.service:
            await stream.send(_SERVICE_UNKNOWN)
            await asyncio.get_running_loop().create_future()
        sent = b""
        while True:
            if sent != self._status:
                sent = self._status
                await stream.send(sent)
                continue
            if self._changed is None:
                self._changed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._changed)
            await self._intake.admitted(TASK_WORK)  # all watchers go on at once


def _log_status(status: str) -> None:
    logger.info("grpc service status changed", extra=fields(service="", status=status))
