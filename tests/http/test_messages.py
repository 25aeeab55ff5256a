"""What responses have in common."""

from __future__ import annotations

import time
from email.utils import formatdate, parsedate_to_datetime

import pytest

from tercet.http1.messages import date


@pytest.mark.parametrize("now", [0, 784111777, 951782400, 1709164799.9, 4102444800])
def test_dates_are_those_of_the_standard_library(now: float) -> None:
    assert date(now) == formatdate(now, usegmt=True)


def test_a_response_is_dated_now() -> None:
    before = int(time.time())
    shown = parsedate_to_datetime(date()).timestamp()
    assert before <= shown <= time.time()
