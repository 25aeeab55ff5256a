"""Shared error instances: raising one must not keep the frames of earlier requests alive."""

from __future__ import annotations

from types import TracebackType

from tercet import errors
from tercet.errors import strip_traceback


def length(trace: TracebackType | None) -> int:
    count = 0
    while trace is not None:
        trace, count = trace.tb_next, count + 1
    return count


def raise_and_catch(times: int, *, strip: bool) -> int:
    for _ in range(times):
        try:
            raise errors.COMPACTED
        except errors.RequestError as error:
            if strip:
                strip_traceback(error)
    return length(errors.COMPACTED.__traceback__)


def test_strip_traceback_keeps_a_shared_error_from_growing() -> None:
    strip_traceback(errors.COMPACTED)
    assert raise_and_catch(50, strip=False) >= 50
    assert raise_and_catch(50, strip=True) == 0
