"""Measures the round trip to a member and the difference of the clocks: GET /raft/probing, every 4 s.

    {"OK":true,"Now":"2024-05-01T12:00:00.123456789Z"}

The other clock is taken to be read halfway through the round trip. The results are for metrics and the log only.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import datetime
from typing import Final

from tercet.gotext.duration import format_seconds
from tercet.http1.client import Answer
from tercet.log_fields import fields
from tercet.peer.context import Context, logger
from tercet.peer.status import PeerStatus
from tercet.peer.url_picker import UrlPicker

_DRIFT_SECONDS_MAX: Final = 1.0
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


def probe_answer(now_ns: int) -> bytes:
    """The answer of /raft/probing at `now_ns` since the epoch."""
    seconds, fraction = divmod(now_ns, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return b'{"OK":true,"Now":"%bZ"}\n' % (text + digits).encode()


def parse_probe(body: bytes) -> float | None:
    """The other member's clock, in seconds since the epoch; None for a malformed answer, or one that is not OK."""
    try:
        answer = json.loads(body)
        match = _TIME.fullmatch(answer["Now"]) if answer["OK"] is True else None
        if match is None:
            return None
        whole = datetime.fromisoformat(match[1] + match[3]).timestamp()
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return whole + int((match[2] or "0").ljust(9, "0")) / 1e9


async def keep_probing(context: Context, status: PeerStatus, picker: UrlPicker) -> None:
    """Runs until cancelled. Failed probes are not logged: the streams fail first, and log it."""
    drifting = False
    while True:
        origin = picker.pick()
        began, wall = time.perf_counter(), time.time()  # a pause between them counts as part of the round trip
        try:
            answer = await context.client.request(origin, "GET", "/raft/probing", [], timeout=context.limits.probe_interval)
        except OSError:
            status.rtt = status.clock_drift = None
        else:
            _note(answer, status, rtt=time.perf_counter() - began, began=wall)
        is_drifting = status.clock_drift is not None and abs(status.clock_drift) > _DRIFT_SECONDS_MAX
        if is_drifting and not drifting:
            drift, rtt = format_seconds(status.clock_drift or 0.0), format_seconds(status.rtt or 0.0)
            shown = fields(remote_peer_id=f"{status.id:x}", clock_drift=drift, rtt=rtt)
            logger.warning("prober found high clock drift", extra=shown)
        drifting = is_drifting
        await asyncio.sleep(context.limits.probe_interval)


def _note(answer: Answer, status: PeerStatus, *, rtt: float, began: float) -> None:
    theirs = parse_probe(answer.body) if answer.status == 200 else None
    if theirs is None:
        status.rtt = status.clock_drift = None
    else:
        status.probed(rtt, theirs - (began + rtt / 2))
