"""A stub member for tests of `tercet up`: takes the flags, reports itself healthy, exits on SIGTERM.

python -m tests.cli.stub_member MODE --name=n1 ...    MODE: serve, crash (n2 prints an error and exits), deaf (never healthy),
                                                          stubborn (ignores SIGTERM)
"""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys
from pathlib import Path

from tercet.proto import rpc_pb2
from tercet.rpc import Server, UnaryCall, unary


def healthy(call: UnaryCall, _: bytes) -> None:
    call.reply(rpc_pb2.RangeResponse().SerializeToString())


def silent(call: UnaryCall, _: bytes) -> None:
    """Never answers."""


def context(flags: dict[str, str]) -> ssl.SSLContext | None:
    if "cert-file" not in flags:
        return None
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=flags["trusted-ca-file"])
    made.load_cert_chain(flags["cert-file"], flags["key-file"])
    made.verify_mode = ssl.CERT_REQUIRED
    made.set_alpn_protocols(["h2"])
    return made


async def main(mode: str, flags: dict[str, str]) -> int:
    if mode == "crash" and flags["name"] == "n2":
        print("n2 cannot go on: the disk is full", flush=True)
        return 3
    Path(flags["data-dir"]).mkdir(parents=True, exist_ok=True)
    starts = Path(flags["data-dir"]) / "starts"
    starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
    answer = unary(silent if mode == "deaf" else healthy)
    server = Server({"/etcdserverpb.KV/Range": answer, "/etcdserverpb.Maintenance/Alarm": answer})
    port = int(flags["listen-client-urls"].rpartition(":")[2])
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(server.protocol, "127.0.0.1", port, ssl=context(flags))
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, (lambda: print("SIGTERM ignored", flush=True)) if mode == "stubborn" else ended.set)
    await ended.wait()
    listener.close()
    print("ended in order", flush=True)
    return 0


if __name__ == "__main__":
    given = dict((word.removeprefix("--").partition("=")[::2]) for word in sys.argv[2:])
    sys.exit(asyncio.run(main(sys.argv[1], given)))
