"""grpc.health.v1: SERVING for the empty service name; no other name is known."""

from __future__ import annotations

import asyncio

from google.protobuf.message import DecodeError

from tercet.errors import Code, RequestError
from tercet.proto import health_pb2
from tercet.rpc import Handler, ServerStream, UnaryCall, server_stream, unary, unmarshal
from tercet.services.kv import refuse

_SERVING = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).SerializeToString()
_UNKNOWN_SERVICE = RequestError(Code.NOT_FOUND, "unknown service")
_SERVICE_UNKNOWN = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN).SerializeToString()


class HealthService:
    """Liveness of the gRPC server. Whether the cluster can commit is the question of /readyz."""

    def handlers(self) -> dict[str, Handler]:
        return {
            "/grpc.health.v1.Health/Check": unary(self.check),
            "/grpc.health.v1.Health/Watch": server_stream(self.watch),
        }

    def check(self, call: UnaryCall, body: bytes) -> None:
        try:
            if health_pb2.HealthCheckRequest.FromString(body).service:
                raise _UNKNOWN_SERVICE
        except (DecodeError, RequestError) as error:
            refuse(call, error)
            return
        call.reply(_SERVING)

    async def watch(self, stream: ServerStream) -> None:
        """Sends the status once, since it does not change while the server runs; then stays open until the client ends it."""
        request = unmarshal(health_pb2.HealthCheckRequest.FromString, await stream.receive_one())
        await stream.send(_SERVICE_UNKNOWN if request.service else _SERVING)
        await asyncio.get_running_loop().create_future()
