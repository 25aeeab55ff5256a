"""Proof that a snapshot can be restored: it is, into a scratch member on this machine, whose HashKV is asked.

    found = await rehearse(Path("demo.db"), revision=1234)     # the HashKV of a running member that has only this data

The member runs tercet, from the local installation, whatever engine the cluster has: the file format and the hash are the same.
It listens on Unix sockets in a directory that only this user can enter, and is removed with its data afterwards. If this
process is killed, the member ends with it, and the next command removes the data.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

from tercet.client import ClusterChannel
from tercet.deploy.ssh.remote import last_lines
from tercet.errors import Code, ConfigError, StatusError
from tercet.owned_directory import OwnedDirectory
from tercet.proto import rpc_pb2

_RESTORE_SECONDS = 3600.0
_START_SECONDS = 300.0  # loading a large database
_CALL_SECONDS = 120.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.1
_RUN = """\
import os, sys, threading
def end_with_parent():
    os.read({1}, 1)  # returns when the parent has ended, which alone has the other end of the pipe
    os._exit(1)
threading.Thread(target=end_with_parent, daemon=True).start()
from tercet.cli.{0} import main
sys.exit(main())
"""


async def rehearse(snapshot: Path, *, revision: int) -> rpc_pb2.HashKVResponse:
    """The HashKV at `revision` (0: the newest) of a member restored from this file. Raises ConfigError with the reason."""
    with OwnedDirectory("rehearsal") as directory:
        data, socket = directory / "data", directory / "client.sock"
        await _restore(snapshot, data)
        async with _running(data, socket, snapshot) as process:
            return await _hash(process, socket, revision, snapshot)


async def _restore(snapshot: Path, data: Path) -> None:
    words = ("snapshot", "restore", str(snapshot), "--data-dir", str(data))
    process = await _start("tercetutl", *words)
    try:
        async with asyncio.timeout(_RESTORE_SECONDS):
            _, err = await process.communicate()
    except TimeoutError:
        raise ConfigError(f"{snapshot}: not restored within {_RESTORE_SECONDS:g} s") from None
    finally:
        await _end(process)
    if process.returncode:
        raise ConfigError(f"{snapshot}: cannot be restored: {last_lines(err, 1)}")


@contextlib.asynccontextmanager
async def _running(data: Path, socket: Path, snapshot: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    flags = {
        "data-dir": str(data),
        "listen-client-urls": f"unix://{socket}",
        "advertise-client-urls": f"unix://{socket}",
        "listen-peer-urls": f"unix://{socket.with_name('peer.sock')}",
        "log-level": "error",
    }
    process = await _start("tercet", *(f"--{name}={value}" for name, value in flags.items()))
    try:
        yield process
    finally:
        await _end(process)


async def _hash(process: asyncio.subprocess.Process, socket: Path, revision: int, snapshot: Path) -> rpc_pb2.HashKVResponse:
    deadline = time.monotonic() + _START_SECONDS
    async with ClusterChannel([f"unix://{socket}"]) as client:
        while True:
            try:
                return await client.maintenance.hash_kv(rpc_pb2.HashKVRequest(revision=revision), timeout=_CALL_SECONDS)
            except StatusError as error:
                if process.returncode is not None:
                    _, err = await process.communicate()
                    raise ConfigError(f"{snapshot}: the restored member does not start: {last_lines(err)}") from error
                if error.code != Code.UNAVAILABLE or time.monotonic() > deadline:
                    raise ConfigError(f"{snapshot}: the restored member does not answer: {error.message}") from error
            await asyncio.sleep(_POLL_SECONDS)


@cache
def _lifetime() -> int:
    """The end to read from of a pipe into which nothing is written: it is at its end when this process has ended."""
    return os.pipe()[0]


async def _start(program: str, *words: str) -> asyncio.subprocess.Process:
    """A program of this installation, without the variables that would set its flags."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _RUN.format(program, _lifetime()),
        *words,
        pass_fds=(_lifetime(),),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
