"""Progress of a running plan: one line per finished step, and on a terminal a live table of the busy hosts below them.

kube-node1  write /etc/systemd/system/etcd.service  done
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Protocol

import click
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tercet.deploy.run.events import Event
from tercet.gotext.strconv import humanize_bytes

LOCAL = "local"
_COLOURS = {"done": "green", "unchanged": "bright_black", "failed": "bold red"}
_ENDED = frozenset(_COLOURS)


class Progress(Protocol):
    """Receives the events of a running plan."""

    def on_event(self, event: Event) -> None: ...

    def paused(self) -> contextlib.AbstractContextManager[None]: ...

    def close(self) -> None: ...


def make_progress(hosts: tuple[str, ...], console: Console | None = None) -> Progress:
    """A table on a terminal, plain lines elsewhere. hosts: names that the lines are aligned for."""
    console = console or _stdout()
    return make_table(hosts, console) or _Lines(console, _width(hosts))


def make_table(hosts: tuple[str, ...], console: Console | None = None) -> Progress | None:
    """A table on a terminal; None elsewhere, so that stdout has only the output of the command."""
    console = console or _stdout()
    return _Table(console, _width(hosts)) if console.is_terminal and not console.is_dumb_terminal else None


def _stdout() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _width(hosts: tuple[str, ...]) -> int:
    return max(map(len, (*hosts, LOCAL)))


class _Lines:
    """One line per finished step."""

    def __init__(self, console: Console, width: int) -> None:
        self._console = console
        self._width = width

    def on_event(self, event: Event) -> None:
        if event.state in _ENDED:
            self._console.print(_line(event, self._width))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        yield

    def close(self) -> None:
        """Nothing to do: every line is complete."""


class JsonLines:
    """One JSON object per finished step, on stdout."""

    def on_event(self, event: Event) -> None:
        if event.state in _ENDED:
            text = {"host": event.host, "step": event.step, "state": event.state, "detail": event.detail}
            click.echo(json.dumps(text))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        yield

    def close(self) -> None:
        """Nothing to do: every line is complete."""


class _Table:
    """One line per finished step, and below them a live row for each host that is busy or waiting."""

    def __init__(self, console: Console, width: int) -> None:
        self._console = console
        self._width = width
        self._totals: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        self._running: dict[str, dict[str, Event]] = {}
        self._spinner = Spinner("dots")
        self._live = Live(console=console, transient=True, refresh_per_second=10, get_renderable=self._table)

    def on_event(self, event: Event) -> None:
        self._live.start()
        host = event.host or LOCAL
        running = self._running.setdefault(host, {})
        if event.state == "waiting":
            self._totals[host] = self._totals.get(host, 0) + 1
        elif event.state in _ENDED:
            running.pop(event.step, None)
            self._ended[host] = self._ended.get(host, 0) + 1
            self._live.refresh()  # before the line is printed, so that the row does not show the finished step
            self._console.print(_line(event, self._width))
        else:
            running[event.step] = event
        if self._is_over:
            self._live.stop()  # the next output, such as a prompt, must not be overwritten

    @property
    def _is_over(self) -> bool:
        """No step is running or waiting."""
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
                Text(event.step if event else "waiting", style="" if event else "bright_black"),
                *_copy(event),
            )
        return table


def _copy(event: Event | None) -> tuple[ProgressBar | Text, Text]:
    """The progress of a copy, or the text of the phase after it: a full bar would look stuck."""
    if event is None or not event.total or event.detail:
        return Text(event.detail if event else ""), Text("")
    bar = ProgressBar(total=event.total, completed=event.done, width=24)
    return bar, Text(f"{humanize_bytes(event.done)} of {humanize_bytes(event.total)}")


def _line(event: Event, width: int) -> Text:
    """The line of a finished step. The detail of a failure may be long and is printed when the command exits."""
    detail = event.detail if event.state != "failed" else ""
    return Text.assemble(
        ((event.host or LOCAL).ljust(width), "bold"),
        f"  {event.step}  ",
        (event.state, _COLOURS[event.state]),
        (f" ({detail})" if detail else "", "bright_black"),
    )
