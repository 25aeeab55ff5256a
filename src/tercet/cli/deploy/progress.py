"""What is seen of a plan while it is carried out: on a terminal a table of hosts that lives, elsewhere a line for each step.

    kube-node1  write /etc/systemd/system/etcd.service  done
The lines are the same in both places and stay; below them the terminal shows what every host is doing just now.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tercet.deploy.run.events import Event
from tercet.gotext.strconv import humanize_bytes

HERE = "here"
_COLOURS = {"done": "green", "unchanged": "bright_black", "failed": "bold red"}
_ENDED = frozenset(_COLOURS)


class Progress(Protocol):
    """One who watches."""

    def hear(self, event: Event) -> None: ...

    def paused(self) -> contextlib.AbstractContextManager[None]: ...

    def close(self) -> None: ...


def make_progress(hosts: tuple[str, ...], console: Console | None = None) -> Progress:
    """The one that suits stdout. hosts: the names that the lines are aligned for."""
    console = console or _stdout()
    return make_table(hosts, console) or _Lines(console, _width(hosts))


def make_table(hosts: tuple[str, ...], console: Console | None = None) -> Progress | None:
    """For what writes its answer to stdout, where a line of ours would be in the way: None where it is no terminal."""
    console = console or _stdout()
    return _Table(console, _width(hosts)) if console.is_terminal and not console.is_dumb_terminal else None


def _stdout() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _width(hosts: tuple[str, ...]) -> int:
    return max(map(len, (*hosts, HERE)))


class _Lines:
    """A line when a step has ended. The same step's line is not repeated."""

    def __init__(self, console: Console, width: int) -> None:
        self._console = console
        self._width = width

    def hear(self, event: Event) -> None:
        if event.state in _ENDED:
            self._console.print(_line(event, self._width))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        yield

    def close(self) -> None:
        """Lines are whole at any time."""


class _Table:
    """The lines, and below them a row for each host that is busy or waits."""

    def __init__(self, console: Console, width: int) -> None:
        self._console = console
        self._width = width
        self._totals: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        self._running: dict[str, dict[str, Event]] = {}
        self._spinner = Spinner("dots")
        self._live = Live(console=console, transient=True, refresh_per_second=10, get_renderable=self._table)

    def hear(self, event: Event) -> None:
        self._live.start()
        host = event.host or HERE
        running = self._running.setdefault(host, {})
        if event.state == "waiting":
            self._totals[host] = self._totals.get(host, 0) + 1
        elif event.state in _ENDED:
            running.pop(event.step, None)
            self._ended[host] = self._ended.get(host, 0) + 1
            self._live.refresh()  # or the line would be drawn above a row that still says the step runs
            self._console.print(_line(event, self._width))
        else:
            running[event.step] = event
        if self._is_over:
            self._live.stop()  # what is written next, such as a question, must not be drawn over

    @property
    def _is_over(self) -> bool:
        """Nothing runs, and nothing that was announced waits."""
        return not any(self._running.values()) and all(
            self._ended.get(host, 0) >= total for host, total in self._totals.items()
        )

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        was_started = self._live.is_started
        self._live.stop()
        try:
            yield
        finally:
            if was_started:
                self._live.start()

    def close(self) -> None:
        self._live.stop()

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for host in dict.fromkeys((*self._totals, *self._running)):
            running = list(self._running.get(host, {}).values())
            ended, total = self._ended.get(host, 0), self._totals.get(host, 0)
            if not running and ended >= total:
                continue
            count = f"{min(ended, total)}/{total}" if total else ""
            event = running[-1] if running else None
            table.add_row(
                self._spinner if event and event.state == "running" else " ",
                Text(host.ljust(self._width), style="bold"),
                Text(count, style="bright_black"),
                Text(event.step if event else "waits", style="" if event else "bright_black"),
                *_copy(event),
            )
        return table


def _copy(event: Event | None) -> tuple[ProgressBar | Text, Text]:
    """How far a copy is, or in words what follows it: a full bar would look like one that hangs."""
    if event is None or not event.total or event.detail:
        return Text(event.detail if event else ""), Text("")
    bar = ProgressBar(total=event.total, completed=event.done, width=24)
    return bar, Text(f"{humanize_bytes(event.done)} of {humanize_bytes(event.total)}")


def _line(event: Event, width: int) -> Text:
    """One step that has ended. What a failure has to say follows where the command ends: it may be long."""
    detail = event.detail if event.state != "failed" else ""
    return Text.assemble(
        ((event.host or HERE).ljust(width), "bold"),
        f"  {event.step}  ",
        (event.state, _COLOURS[event.state]),
        (f" ({detail})" if detail else "", "bright_black"),
    )
