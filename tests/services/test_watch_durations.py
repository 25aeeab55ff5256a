"""Each response of a batch counts with an equal share of the time."""

from __future__ import annotations

import pytest

from tercet.services import watch_durations
from tercet.services.watch_durations import CONTROL, PER_EVENT, WATCH_STREAM, SendDurations
from tests.support.fakes import uses_fakes


class Hub:
    delivered_events = 0


@uses_fakes
def test_a_batch_is_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr(watch_durations, "monotonic", lambda: now[0])
    hub = Hub()
    sends = SendDurations(hub)  # type: ignore[arg-type]
    sends.begin()
    sends.responses, sends.controls, hub.delivered_events = 3, 1, 6
    now[0] += 0.4
    sends.end()
    sends.begin()
    now[0] += 5
    sends.end()  # nothing was sent
    found = {kind: (sum(counts), round(total, 6)) for kind, _, counts, total in sends.durations.histograms()}
    assert found == {WATCH_STREAM: (3, 0.3), PER_EVENT: (3, 0.15), CONTROL: (1, 0.1)}
