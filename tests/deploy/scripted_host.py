"""A fake host with one scripted service: no SSH, no systemd."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.settings import ServiceSettings, TlsSettings
from tercet.deploy.ssh.remote import Completed

STOPPED = "LoadState=loaded ActiveState=inactive SubState=dead Result=success"
STARTING = "LoadState=loaded ActiveState=activating SubState=start Result=success"
RUNNING = "LoadState=loaded ActiveState=active SubState=running Result=success"
FAILED = "LoadState=loaded ActiveState=activating SubState=auto-restart Result=exit-code ExecMainStatus=3"


def cluster_of(count: int, path: Path = Path("cluster.yaml"), *, start_timeout: int = 5, tls: bool = False) -> Cluster:
    return Cluster(
        name="c",
        hosts=tuple(HostSpec(name=f"m{number}", address=f"10.0.0.{number}") for number in range(1, count + 1)),
        path=path,
        tls=TlsSettings(enabled=tls, directory=path.parent / "pki"),
        service=ServiceSettings(start_timeout_seconds=start_timeout),
    )


class ScriptedHost:
    """before: state until the start. after: states of the following polls; the last one repeats."""

    def __init__(
        self, name: str, *, before: str = RUNNING, after: Sequence[str] = (STARTING, RUNNING), journal: str = ""
    ) -> None:
        self.name = name
        self.spec = HostSpec(name=name, address=f"10.0.0.{name[1:]}")
        self.commands: list[str] = []
        self.files: dict[str, bytes] = {}
        self._before = before
        self._after = list(after)
        self._journal = journal
        self.starts = 0

    async def check(self, command: str, **options: Any) -> bytes:
        return (await self.run(command, **options)).stdout

    async def run(self, command: str, **options: Any) -> Completed:
        await asyncio.sleep(0)
        self.commands.append(command)
        return Completed(0, self._answer(command), b"")

    def _answer(self, command: str) -> bytes:
        if command.startswith("systemctl show"):
            if not self.starts:
                state = f"{self._before} InvocationID=old"
            else:
                state = self._after.pop(0) if len(self._after) > 1 else self._after[0]
                state += "" if "InvocationID" in state else f" InvocationID=new{self.starts}"
            return state.replace(" ", "\n").encode()
        if "systemctl restart --no-block" in command:
            self.starts += 1
        if "journalctl" in command:
            return self._journal.encode()
        if command == "date +%s":
            return b"1800000000"
        if command.startswith("echo '== "):
            return b"".join(b"== %s\n%s\n" % (path.encode(), content) for path, content in self.files.items())
        return b""
