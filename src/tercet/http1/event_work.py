"""What h11's events cost in a turn of the loop, in the units of intake.py."""

from __future__ import annotations

from typing import Final

import h11

from tercet.intake import BYTES_SHIFT, TASK_WORK

PIECE_WORK: Final = 20
"""Of one connection before the next has its turn. Small: a new connection waits for one piece of each that has sent much."""

_EVENT_WORK: Final = 2  # 7 to 30 us
_FIELD_WORK: Final = 1  # of a head, which h11 parses as a whole: up to 25 ms for the largest


def work_of(event: object) -> int:
    if isinstance(event, h11.Data):
        return _EVENT_WORK + (len(event.data) >> BYTES_SHIFT)
    if isinstance(event, h11.Request):
        return TASK_WORK + _FIELD_WORK * len(event.headers)
    return _EVENT_WORK
