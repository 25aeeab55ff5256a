"""A client in a web application: a visit counter that any number of processes share.

`Visits` is an ASGI application: `uvicorn --factory asgi_app:create` serves it, and Starlette or FastAPI mount it. It opens one
client for the life of the process. Here it is called without a web server. Prints:

    GET /visits/home -> 200 1
    GET /visits/home -> 200 2
    GET /visits/about -> 200 1
    GET /elsewhere -> 404 not found
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from connected import connected

import tercet

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Visits:
    """`GET /visits/NAME` counts and answers the number of visits."""

    def __init__(self, client: tercet.AsyncClient | None = None) -> None:
        """client: None to open one, as the environment says (ETCDCTL_ENDPOINTS), when the application starts."""
        self._client = client

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(*await self._visit(scope["path"]), send)

    async def _live(self, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        async with self._client or tercet.AsyncClient.from_env() as self._client:
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})

    async def _visit(self, path: str) -> tuple[int, str]:
        _, visits, name = f"{path}//".split("/", 2)
        if visits != "visits" or not name.strip("/"):
            return 404, "not found"
        assert self._client is not None
        try:
            return 200, str(await self._client.counter(f"visits/{name.strip('/')}").add())
        except tercet.Indeterminate:
            return 503, "the visit may or may not be counted"
        except tercet.TercetError as error:
            return 503, error.message

    @staticmethod
    async def _answer(status: int, text: str, send: Send) -> None:
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text.encode()})


def create() -> Visits:
    return Visits()


async def get(application: Visits, path: str) -> None:
    """Call the application as a web server does."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await application({"type": "http", "method": "GET", "path": path}, receive, send)
    print(f"GET {path} -> {sent[0]['status']} {sent[1]['body'].decode()}")


async def main() -> None:
    async with connected() as client:
        application = Visits(client)
        for path in ("/visits/home", "/visits/home", "/visits/about", "/elsewhere"):
            await get(application, path)


if __name__ == "__main__":
    asyncio.run(main())
