"""One member in the caller's event loop, or in a thread.

async with tercet.Server() as server:
    async with server.client() as client: ...

with tercet.Server.start_in_thread() as server: ...
"""

from __future__ import annotations

from typing import Any

from tercet.embed.member import EmbeddedMember
from tercet.embed.threaded import ThreadedServer


class Server(EmbeddedMember):
    """A member; see EmbeddedMember for its arguments and methods."""

    def __repr__(self) -> str:
        state = "running" if self.is_running else "not running"
        return f"<Server {self.name} at {', '.join(self.endpoints)}, {state}>"

    @staticmethod
    def start_in_thread(**arguments: Any) -> ThreadedServer:
        """A started server in a thread of its own. arguments: of Server. Close it, or use it with `with`."""
        server = ThreadedServer(**arguments)
        try:
            return server.start()
        except BaseException:
            server.close()
            raise
