"""How `tercet deploy` lets go: of the screen before it asks, of a pipe that nobody reads, of a start that is interrupted."""

from __future__ import annotations

import errno
import io
import os

import pytest
from rich.console import Console

from tercet.cli import tercet
from tercet.cli.deploy.options import reported
from tercet.cli.deploy.progress import make_progress
from tercet.deploy.run.events import Event


def test_nothing_is_drawn_while_nothing_runs() -> None:
    """A question may be asked between building the engine and the first step; what is drawn would erase what is typed."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, highlight=False)
    progress = make_progress(("n1", "n2"), console)
    try:
        progress.hear(Event(None, "tercet as one file", "running", done=1, total=2))
        progress.hear(Event(None, "tercet as one file", "done"))
        assert not console._live_stack
        written = len(out.getvalue())
        progress.hear(Event("n1", "start", "waiting"))
        progress.hear(Event("n2", "start", "waiting"))
        progress.hear(Event("n1", "start", "done"))
        assert "waits" in out.getvalue()[written:]
        assert console._live_stack
        progress.hear(Event("n2", "start", "failed"))
        assert not console._live_stack
    finally:
        progress.close()


def test_a_pipe_that_nobody_reads_is_no_fault_to_tell() -> None:
    def work() -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    with pytest.raises(BrokenPipeError):
        reported(work)


def test_ctrl_c_while_modules_are_loaded(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tercet, "import_module", interrupted)
    assert tercet.main(["deploy", "plan"]) == 130
    assert capsys.readouterr().err == ""
