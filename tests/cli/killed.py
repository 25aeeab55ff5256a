"""Runs a command again and again, killed before each of its changes to the file system in turn, as a program of its own.

    python -m tests.cli.killed EVENTS PROGRAM DIRECTORY WORDS...

EVENTS: audit events that change files, with commas between them, or "all". PROGRAM: tercetutl or tercetctl.

Each run begins with a copy of DIRECTORY in its place, in which WORDS are relative paths. After the kill the copy is examined by
the same command run to its end: one line of JSON each, {"event", "left", "code", "said"}; `left` are the files after the kill,
with their sizes. The run that no kill has reached is the last, with event null.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

_CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}


def main() -> None:
    events, program, source, *words = sys.argv[1:]
    kinds = _CHANGES if events == "all" else set(events.split(","))
    command = import_module(f"tercet.cli.{program}").main
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
        command([*words, "--help"])  # imports most of what it needs, once
    place = Path(source).with_name("place")
    event = place.with_name("event")
    for kill_at in range(1, 1000):
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run(["cp", "-a", "--sparse=always", source, place], check=True)  # etcd's log is 64 MB of zeros
        code, _ = _run(place, partial(_killed, command, words, kinds, kill_at, event))
        killed = code == -signal.SIGKILL
        left = {str(path.relative_to(place)): path.stat().st_size for path in sorted(place.rglob("*"))}
        code, said = _run(place, partial(command, words))
        what = event.read_text() if killed else None
        print(json.dumps({"event": what, "left": left, "code": code, "said": said}), flush=True)
        if not killed:
            return


def _killed(command: Callable[[list[str]], int], words: list[str], kinds: set[str], kill_at: int, record: Path) -> int:
    """Run the command in this process, which is killed before its `kill_at`th event of these kinds."""
    count = 0

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event not in kinds or (event == "open" and not _writes(arguments)):
            return
        count += 1
        if count == kill_at:
            count += 1  # the next line opens a file too
            record.write_text(f"{event} {arguments[0]}")
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)
    return command(words)


def _writes(arguments: tuple[object, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _run(place: Path, work: Callable[[], int]) -> tuple[int, str]:
    """Run `work` in a child process, in `place`. Returns its exit code, negative for a signal, and what it wrote to stderr."""
    said = place.with_name("said")
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.chdir(place)
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        code = 99
        try:
            code = work()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), said.read_text()


if __name__ == "__main__":
    main()
