"""The errors that are shared: answering with one a thousand times must not keep a thousand requests alive."""

from __future__ import annotations

from types import TracebackType

from tercet import errors
from tercet.errors import strip_traceback


def length(trace: TracebackType | None) -> int:
    count = 0
    while trace is not None:
        trace, count = trace.tb_next, count + 1
    return count


def raise_and_catch(times: int, *, forget: bool) -> int:
    for _ in range(times):
        try:
            raise errors.COMPACTED
        except errors.RequestError as error:
            if forget:
                strip_traceback(error)
    return length(errors.COMPACTED.__traceback__)


def test_a_shared_error_grows_unless_it_is_told_to_forget() -> None:
    strip_traceback(errors.COMPACTED)
    assert raise_and_catch(50, forget=False) >= 50
    assert raise_and_catch(50, forget=True) == 0
