"""The live display and prompts of `tercet deploy` on a terminal."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from tercet.cli.deploy.progress import make_progress
from tercet.deploy.run.events import Event
from tests.support.waiting import scaled

ASK = """
import asyncio, sys
from contextlib import nullcontext
from tercet.cli.deploy.prompts import password_source
ask = password_source(None, nullcontext)
try:
    print("got", len(asyncio.run(ask("password: "))))
except KeyboardInterrupt:
    print("interrupted")
import termios
print("echo" if termios.tcgetattr(0)[3] & termios.ECHO else "silent")
"""


PLAN = """
import asyncio, sys
from tercet.cli.deploy.command import command
from tercet.cli.deploy.options import Options
from tercet.deploy import Event, Plan

class Building:
    def __init__(self, cluster, *, on_event, **options):
        self.on_event = on_event or (lambda event: None)

    async def plan(self):
        self.on_event(Event(None, "build the tercet bundle", "running", done=1_000_000, total=4_000_000))
        await asyncio.to_thread(sys.stdin.readline)  # until the test has seen it
        self.on_event(Event(None, "build the tercet bundle", "done"))
        return Plan()

command(["-f", {file!r}, "plan", *{options!r}], obj=Options(make=Building))
"""
NOTHING_TO_DO = "Nothing to do: the hosts match the cluster file."


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, source: str) -> None:
        self.descriptor, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", source],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            cwd=Path(__file__).parents[2],
        )
        os.close(theirs)
        self.output = ""

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + scaled(20)
        while text not in self.output:
            assert time.monotonic() < deadline, self.output
            if select.select([self.descriptor], [], [], 0.1)[0]:
                try:
                    self.output += os.read(self.descriptor, 4096).decode()
                except OSError:
                    assert text in self.output, self.output

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())


@pytest.fixture
def asked() -> Iterator[Terminal]:
    terminal = Terminal(ASK)
    try:
        terminal.wait_for("password: ")
        yield terminal
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.descriptor)


def test_a_password_is_not_echoed_and_echo_is_restored(asked: Terminal) -> None:
    asked.type("correct horse\n")
    asked.wait_for("echo")
    assert "got 13" in asked.output
    assert "horse" not in asked.output


def test_control_c_at_a_prompt_restores_echo(asked: Terminal) -> None:
    asked.process.send_signal(2)
    asked.wait_for("interrupted")
    asked.wait_for("echo")


def planned(directory: Path, *options: str) -> str:
    file = directory / "cluster.yaml"
    file.write_text(
        "name: c\nhosts: [{name: a, address: 10.0.0.1}, {name: b, address: 10.0.0.2}, {name: c, address: 10.0.0.3}]\n"
    )
    return PLAN.format(file=str(file), options=options)


def test_plan_shows_the_bundle_build_on_a_terminal(tmp_path: Path) -> None:
    terminal = Terminal(planned(tmp_path))
    try:
        terminal.wait_for("1.0 MB of 4.0 MB")
        terminal.type("\n")
        terminal.wait_for(NOTHING_TO_DO)
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.descriptor)


@pytest.mark.parametrize(
    ("options", "expected"),
    [((), f"{NOTHING_TO_DO}\n"), (("-w", "json"), '{\n  "phases": [],\n  "notes": [],\n  "blockers": []\n}\n')],
)
def test_without_a_terminal_only_the_plan_is_printed(tmp_path: Path, options: tuple[str, ...], expected: str) -> None:
    source = planned(tmp_path, *options)
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert done.stdout == expected


def drawn(*events: Event, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=terminal, width=120, highlight=False, color_system=None, _environ={"TERM": "xterm"}
    )
    progress = make_progress(("kube-node1", "kube-node2"), console)
    for event in events:
        progress.on_event(event)
    with progress.paused():
        out.write("[asked]")
    progress.close()
    return out.getvalue()


EVENTS = (
    Event("kube-node1", "copy tercet-0.1.0", "waiting"),
    Event("kube-node2", "restart", "waiting"),
    Event(None, "create CA", "done", "3650 days"),
    Event("kube-node1", "copy tercet-0.1.0", "running", done=2_000_000, total=8_000_000),
    Event("kube-node2", "restart", "failed", "the cellar is flooded"),
)


def test_one_line_per_finished_step() -> None:
    assert drawn(*EVENTS, terminal=False) == ("local       create CA  done (3650 days)\nkube-node2  restart  failed\n[asked]")


def test_the_table_shows_running_steps_and_copy_progress() -> None:
    shown = drawn(*EVENTS, terminal=True)
    assert "unpacks" not in shown
    assert "local       create CA  done (3650 days)\n" in shown
    assert "kube-node2  restart  failed\n" in shown
    live = shown.split("[asked]")[0]
    assert "2.0 MB of 8.0 MB" in live
    assert "0/1" in live
    assert shown.index("\x1b[?25h") < shown.index("[asked]")  # the cursor is visible at the prompt
    assert shown.rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in shown.split("[asked]")[1]


def test_a_finished_copy_shows_that_the_host_unpacks() -> None:
    arrived = Event("kube-node1", "copy tercet-0.1.0", "running", "unpacking", done=8_000_000, total=8_000_000)
    shown = drawn(*EVENTS[:1], arrived, terminal=True).split("[asked]")[0]
    assert "copy tercet-0.1.0  unpacking" in shown
    assert "8.0 MB" not in shown
    assert drawn(*EVENTS[:1], arrived, terminal=False) == "[asked]"
