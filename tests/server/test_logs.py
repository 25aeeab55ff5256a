"""Log lines, outputs and rotation."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from tercet.config.log_settings import LogSettings, Rotation, log_settings
from tercet.config.startup_error import StartupError, info, warn
from tercet.errors import ConfigError
from tercet.log_fields import fields
from tercet.server.logs.journal import JournalHandler
from tercet.server.logs.rotation import RotatingHandler, sweep
from tercet.server.logs.zap_format import (
    ConsoleFormatter,
    JsonFormatter,
    Sampling,
    configure,
    level_name,
    report,
    write_lines,
)
from tests.support.waiting import scaled


@pytest.fixture(autouse=True)
def _logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def record(
    message: str = "m",
    named: Mapping[str, object] | None = None,
    *,
    level: int = logging.INFO,
    name: str = "tercet.server.member",
) -> logging.LogRecord:
    made = logging.LogRecord(name, level, "/x/server/member.py", 140, message, (), None)
    made.__dict__.update(fields(named))
    return made


def test_a_line_is_one_json_object_in_etcds_order() -> None:
    line = JsonFormatter().format(record("ready", {"local-member-id": "8e9e", "took": timedelta(milliseconds=1500)}))
    found = json.loads(line)
    assert list(found) == ["level", "ts", "caller", "msg", "local-member-id", "took"]
    assert found["caller"] == "server/member.py:140"
    assert found["took"] == "1.5s"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", found["ts"])


def test_a_field_can_hold_any_value() -> None:
    values = {"a": b"\xff", "b": {2, 1}, "c": Path("/x"), "d": [timedelta(0)], "e": "line\nend", "f": None, "g": object}
    found = json.loads(JsonFormatter().format(record("m", values)))
    assert (found["a"], found["b"], found["c"], found["d"], found["e"], found["f"]) == (
        "\ufffd",
        [1, 2],
        "/x",
        ["0s"],
        "line\nend",
        None,
    )


def test_underscores_of_keywords_become_hyphens() -> None:
    assert fields({"a_b": 1}, data_dir="d") == {"fields": {"a_b": 1, "data-dir": "d"}}


def test_an_exception_gives_error_and_stacktrace() -> None:
    made = record("failed", level=logging.ERROR)
    try:
        raise ValueError("the reason")
    except ValueError:
        made.exc_info = sys.exc_info()
    found = json.loads(JsonFormatter().format(made))
    assert found["error"] == "the reason"
    assert "test_logs.py" in found["stacktrace"]


def test_lines_of_libraries_name_their_logger() -> None:
    assert json.loads(JsonFormatter().format(record(name="asyncio")))["logger"] == "asyncio"


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (10, "debug"),
        (20, "info"),
        (25, "info"),
        (30, "warn"),
        (40, "error"),
        (47, "dpanic"),
        (48, "panic"),
        (50, "fatal"),
        (5, "debug"),
    ],
)
def test_levels_have_etcds_names(level: int, name: str) -> None:
    assert level_name(level) == name


def test_console_lines() -> None:
    columns = ConsoleFormatter().format(record("ready", {"id": 7})).split("\t")
    assert columns[1:] == ["info", "server/member.py:140", "ready", '{"id": 7}']


def test_lines_below_the_level_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "log"
    configure(LogSettings(level=logging.WARNING, outputs=(str(path),)))
    write_lines([info("no"), warn("yes", data_dir="d")])
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["level"], line["msg"], line["data-dir"]) for line in found] == [("warn", "yes", "d")]


def test_every_output_gets_every_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogSettings(outputs=(str(tmp_path / "log"), "stdout")))
    write_lines([info("everywhere")])
    assert "everywhere" in (tmp_path / "log").read_text()
    assert capsys.readouterr().out.count("everywhere") == 1


def test_dev_null_among_the_outputs_disables_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    found = log_settings(
        logger="zap", outputs=("/dev/null", "stderr"), level="info", form="json", rotate=False, rotation_json=""
    )
    configure(found)
    write_lines([warn("nothing")])
    assert capsys.readouterr().err == ""


def test_repeated_messages_are_sampled() -> None:
    sampling = Sampling()
    made = [record("again") for _ in range(350)]
    for one in made:
        one.created = 1000.5
    assert sum(sampling.filter(one) for one in made) == 102
    other = record("another")
    other.created = 1000.6
    assert sampling.filter(other)
    later = record("again")
    later.created = 1001.0
    assert sampling.filter(later)


def test_a_startup_error_is_reported_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    code = report(StartupError("x", code=2, out="to out\n", error_text="to err\n", lines=[warn("a line", error="why")]))
    shown = capsys.readouterr()
    assert (code, shown.out) == (2, "to out\n")
    first, second = shown.err.splitlines()
    assert json.loads(first)["error"] == "why"
    assert second == "to err"


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "none" / "log"
    with pytest.raises(ConfigError, match=f'open sink "{path}": open {path}: no such file or directory'):
        configure(LogSettings(outputs=(str(path),)))
    with pytest.raises(ConfigError, match='open sink "": open : no such file or directory'):
        configure(LogSettings(outputs=("",)))


# The journal


def test_lines_reach_the_journal(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        journal.settimeout(60)
        handler = JournalHandler(path)
        handler.setFormatter(JsonFormatter())
        handler.emit(record("two\nlines", level=logging.WARNING))
        datagram = journal.recv(1 << 16)
        handler.close()
    assert datagram.startswith(b"PRIORITY=4\nSYSLOG_IDENTIFIER=")
    _, _, rest = datagram.partition(b"MESSAGE\n")
    length = int.from_bytes(rest[:8], "little")
    assert json.loads(rest[8 : 8 + length])["msg"] == "two\nlines"
    assert rest[8 + length :] == b"\n"


def test_a_missing_journal_is_a_config_error(tmp_path: Path) -> None:
    path = str(tmp_path / "none")
    with pytest.raises(
        ConfigError, match=re.escape(f"can't find journal (dial unixgram {path}: connect: no such file or directory)")
    ):
        JournalHandler(path)


# Rotation


def rotated(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != "etcd.log")


def test_a_full_file_is_renamed_with_the_time(tmp_path: Path) -> None:
    handler = RotatingHandler(str(tmp_path / "etcd.log"), Rotation(megabytes_max=1))
    handler.setFormatter(logging.Formatter("%(message)s"))
    for _ in range(3):
        handler.emit(record("x" * 500_000))
    handler.close()
    (aside,) = rotated(tmp_path)
    assert re.fullmatch(r"etcd-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}\.log", aside)
    assert (tmp_path / aside).stat().st_size == 1_000_002
    assert (tmp_path / "etcd.log").stat().st_size == 500_001


def test_old_files_are_deleted_by_number_and_age_and_the_others_compressed(tmp_path: Path) -> None:
    for day in range(1, 6):
        (tmp_path / f"etcd-2026-11-0{day}T00-00-00.000.log").write_text(str(day))
    (tmp_path / "etcd-other.log").write_text("not ours")
    long_ago = time.time() - 10 * 86_400
    os.utime(tmp_path / "etcd-2026-11-04T00-00-00.000.log", (long_ago, long_ago))
    sweep(str(tmp_path / "etcd.log"), Rotation(files_max=3, days_max=7, compress=True))
    assert rotated(tmp_path) == ["etcd-2026-11-03T00-00-00.000.log.gz", "etcd-2026-11-05T00-00-00.000.log.gz", "etcd-other.log"]
    assert gzip.decompress((tmp_path / "etcd-2026-11-05T00-00-00.000.log.gz").read_bytes()) == b"5"


def test_a_process_writes_complete_lines_to_stderr(tmp_path: Path) -> None:
    """As in the program: configured once, written to stderr."""
    code = (
        "import logging; from tercet.server.logs.zap_format import configure; from tercet.log_fields import fields;"
        "from tercet.config.log_settings import LogSettings;"
        "configure(LogSettings()); logging.getLogger('tercet').info('hello', extra=fields(name='n1'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=scaled(20), check=True)
    found = json.loads(done.stderr)
    assert (found["level"], found["msg"], found["name"]) == ("info", "hello", "n1")


def test_the_caller_in_a_compiled_module_is_that_module() -> None:
    """A compiled function has no frame: the logging module finds the frame of whatever called it."""
    compiled = logging.LogRecord("tercet.raft.raft", logging.INFO, "/x/asyncio/runners.py", 118, "m", (), None)
    assert json.loads(JsonFormatter().format(compiled))["caller"] == "raft/raft.py"
    interpreted = logging.LogRecord("tercet.server.main", logging.INFO, "/x/tercet/server/main.py", 7, "m", (), None)
    assert json.loads(JsonFormatter().format(interpreted))["caller"] == "server/main.py:7"
