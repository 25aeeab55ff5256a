"""h2load as the load generator: independent, in C, and cheaper for the host than ours.

It repeats one request and sees only the HTTP status.
"""

from __future__ import annotations

import asyncio
import re
import struct
import tempfile
from dataclasses import dataclass

from tercet.bench.load import LoadFailed

_RATE = re.compile(r"finished in [^,]+, ([\d.]+) req/s")
_DONE = re.compile(r"(\d+) succeeded, (\d+) failed")


@dataclass(frozen=True)
class Shot:
    """One run: `streams` requests in flight on each of `connections`."""

    url: str
    message: bytes
    connections: int
    streams: int
    seconds: float
    warmup: float


async def run(shot: Shot) -> float:
    """Requests per second. Raises LoadFailed."""
    with tempfile.NamedTemporaryFile(prefix="tercet-bench-") as body:
        body.write(struct.pack(">BI", 0, len(shot.message)) + shot.message)
        body.flush()
        process = await asyncio.create_subprocess_exec(
            "h2load",
            f"--duration={max(round(shot.seconds), 1)}",
            f"--warm-up-time={round(shot.warmup)}",
            f"--clients={shot.connections}",
            f"--max-concurrent-streams={shot.streams}",
            f"--data={body.name}",
            "--header=content-type: application/grpc",
            "--header=te: trailers",
            shot.url,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            out, _ = await asyncio.wait_for(process.communicate(), shot.seconds + shot.warmup + 60)
        except BaseException:
            process.kill()
            await process.wait()
            raise
    text = out.decode("utf-8", "replace")
    rate, done = _RATE.search(text), _DONE.search(text)
    if process.returncode or rate is None or done is None or not int(done[1]) or int(done[2]):
        raise LoadFailed(f"h2load failed: {text.strip()[-400:]}")
    return float(rate[1])
