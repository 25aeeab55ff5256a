"""`tercet deploy` releases the terminal before prompts, and handles closed pipes and interrupted starts."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys

import pytest
from rich.console import Console

from tercet.cli import tercet
from tercet.cli.deploy.options import with_click_errors
from tercet.cli.deploy.progress import make_progress
from tercet.deploy.run.events import Event
from tests.support.waiting import scaled


def test_the_live_display_stops_when_nothing_runs() -> None:
    """A prompt between building the bundle and the first step must not be overwritten."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, highlight=False)
    progress = make_progress(("n1", "n2"), console)
    try:
        progress.on_event(Event(None, "build the tercet bundle", "running", done=1, total=2))
        progress.on_event(Event(None, "build the tercet bundle", "done"))
        assert not console._live_stack
        written = len(out.getvalue())
        progress.on_event(Event("n1", "start", "waiting"))
        progress.on_event(Event("n2", "start", "waiting"))
        progress.on_event(Event("n1", "start", "done"))
        assert "waiting" in out.getvalue()[written:]
        assert console._live_stack
        progress.on_event(Event("n2", "start", "failed"))
        assert not console._live_stack
    finally:
        progress.close()


def test_a_closed_pipe_is_not_reported() -> None:
    def work() -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    with pytest.raises(BrokenPipeError):
        with_click_errors(work)


def test_ctrl_c_during_imports(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tercet, "import_module", interrupted)
    assert tercet.main(["deploy", "plan"]) == 130
    assert capsys.readouterr().err == ""


_SLEEPS = """
import asyncio, os, signal, sys
from tercet.cli.deploy.options import run

async def work():
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
        await asyncio.sleep(0.1 if sys.argv[2:] else 60)
    finally:
        print("removed", flush=True)

signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[2:] else signal.SIG_DFL)  # the tests may run under nohup themselves
try:
    run(work())
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    ("number", "more", "out"),
    [
        (signal.SIGTERM, [], "removed\ninterrupted\n"),
        (signal.SIGHUP, [], "removed\ninterrupted\n"),
        (signal.SIGHUP, ["nohup"], "removed\n"),
    ],
)
def test_a_signal_that_ends_a_command_lets_it_remove_its_files(number: signal.Signals, more: list[str], out: str) -> None:
    """A decrypted snapshot, or a scratch member that would go on for ever."""
    words = [sys.executable, "-c", _SLEEPS, str(int(number)), *more]
    done = subprocess.run(words, capture_output=True, text=True, timeout=scaled(60), check=False)
    assert (done.returncode, done.stdout) == (0, out), done.stderr
