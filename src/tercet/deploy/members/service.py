"""A member as a systemd service: start, stop, and wait until it is ready or has failed.

    await start(host, cluster)      # restarts a running unit

The unit has Type=notify: systemd considers it active when the member has joined a cluster with a leader. The first start of a
cluster therefore waits for the other members and must be requested on all hosts at once. Failures include the last lines of the
journal, and an explanation if they are about certificates.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.cluster.member_flags import certificate_files
from tercet.deploy.members.running_flags import running_flags
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host
from tercet.errors import ConfigError
from tercet.pki import days_left, explain

_POLL_SECONDS = 0.2
_POLL_SECONDS_MAX = 1.0
_STOP_SECONDS = 120
_JOURNAL_LINES = 15
_LOADING = "loading"  # how a member's StatusText begins while it loads its database (tercet/server/systemd.py)
_LOADED_SECONDS = 60  # for what follows; as long as the member extends systemd's time limit
# One failure may be transient, such as a name server that was not up yet; a second one is reported.
_FAILURES_MAX = 2
_SHOWN = (
    *("LoadState", "ActiveState", "SubState", "Result", "NRestarts", "InvocationID", "ExecMainStatus", "UnitFileState"),
    "StatusText",
)
_ABOUT_CERTIFICATES = re.compile(r"certificate|x509|tls:|handshake", re.IGNORECASE)
_CERTIFICATE_FLAGS = ("cert-file", "peer-cert-file", "trusted-ca-file", "peer-trusted-ca-file")
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


@dataclass(frozen=True)
class UnitState:
    """Properties of a unit, in systemd's terms (systemctl(1))."""

    load: str
    active: str
    sub: str
    result: str
    restarts: int
    invocation: str
    exit_status: str
    is_enabled: bool
    status: str = ""

    @property
    def is_loading(self) -> bool:
        """Whether it is started and still loads its database; systemd gives it time while it makes progress."""
        return self.active == "activating" and self.status.startswith(_LOADING)

    @property
    def is_up(self) -> bool:
        return self.active in ("active", "reloading")

    @property
    def text(self) -> str:
        return f"{self.active}/{self.sub}"


async def unit_state(host: Host, unit: str, *, step: str = "get service state") -> UnitState:
    """load is "not-found" for a unit that does not exist."""
    properties = " ".join(f"-p {name}" for name in _SHOWN)
    out = await host.check(f"systemctl show {shlex.quote(unit)} {properties}", step=step)
    shown = dict(line.split("=", 1) for line in out.decode("utf-8", "replace").splitlines() if "=" in line)
    return UnitState(
        shown.get("LoadState", ""),
        shown.get("ActiveState", ""),
        shown.get("SubState", ""),
        shown.get("Result", ""),
        int(shown.get("NRestarts") or 0),
        shown.get("InvocationID", ""),
        shown.get("ExecMainStatus", ""),
        shown.get("UnitFileState", "") == "enabled",
        shown.get("StatusText", ""),
    )


@dataclass(frozen=True)
class StartRequest:
    """A requested start: the state before it, and when it was requested (monotonic seconds)."""

    before: UnitState
    began: float


async def start(host: Host, cluster: Cluster, *, step: str = "start") -> str:
    """Start or restart the member and wait until it is ready. Returns the time taken, as text.

    Raises HostError if it fails or is not ready in time; the unit is then left as it is for inspection.
    """
    return await wait_started(host, cluster, await request_start(host, cluster, step=step), step=step)


async def request_start(host: Host, cluster: Cluster, *, step: str) -> StartRequest:
    """Start or restart the member without waiting for it."""
    unit = _unit(cluster)
    # A unit that has hit its start limit does not start again before reset-failed.
    command = f"systemctl reset-failed {unit} 2>/dev/null; systemctl restart --no-block {unit}"
    request = StartRequest(await unit_state(host, unit, step=step), time.monotonic())
    await host.check(command, step=step)
    return request


async def wait_started(host: Host, cluster: Cluster, request: StartRequest, *, step: str) -> str:
    """Wait until a requested start is ready; see `start`."""
    await _wait_ready(host, cluster, request.before, step)
    return f"ready in {time.monotonic() - request.began:.1f} s"


async def _wait_ready(host: Host, cluster: Cluster, before: UnitState, step: str) -> None:
    limit = cluster.service.start_timeout_seconds
    deadline = time.monotonic() + limit
    pause = _POLL_SECONDS
    while True:
        state = await unit_state(host, _unit(cluster), step=step)
        if state.invocation != before.invocation:  # the stop of the restart is done
            if state.is_up:
                return
            if _has_failed(state):
                raise await _failure(host, cluster, state, step, f"{_unit(cluster)} {_failure_text(state)}")
        elif state.active == "failed" and before.active != "failed":
            raise await _failure(host, cluster, state, step, f"{_unit(cluster)} {_failure_text(state)}")
        if state.is_loading:
            deadline = max(deadline, time.monotonic() + _LOADED_SECONDS)
        if time.monotonic() >= deadline:
            text = f"{_unit(cluster)} is {state.text}, not ready after {limit} s (service.start_timeout_seconds)"
            raise await _failure(host, cluster, state, step, text)
        await asyncio.sleep(pause)
        pause = min(pause * 1.2, _POLL_SECONDS_MAX)


def _has_failed(state: UnitState) -> bool:
    failures = state.restarts + (state.sub == "auto-restart")
    return state.active == "failed" or failures >= _FAILURES_MAX


def _failure_text(state: UnitState) -> str:
    if state.result == "timeout":
        return "did not become ready within systemd's start timeout"
    if state.result == "exit-code":  # ExecMainStatus is 0 if another command of the unit failed, for example of a drop-in
        return "failed" + (f" (exit code {state.exit_status})" if state.exit_status.strip("0") else "")
    return f"failed ({state.result})"


async def stop(host: Host, unit: str, *, step: str = "stop") -> str:
    """Stop and disable a unit, if it exists."""
    state = await unit_state(host, unit, step=step)
    if state.load == "not-found" and state.active in ("inactive", ""):
        return "unchanged"
    name = shlex.quote(unit)
    await host.check(f"systemctl stop {name} && {{ systemctl disable {name} 2>&1 || :; }}", step=step, timeout=_STOP_SECONDS)
    return ""


async def _failure(host: Host, cluster: Cluster, state: UnitState, step: str, text: str) -> HostError:
    lines = await journal(host, state.invocation, _unit(cluster), step=step)
    if lines:
        text += "; last journal lines:\n" + "\n".join(f"  {line}" for line in lines)
    if any(_ABOUT_CERTIFICATES.search(line) for line in lines):
        text += "".join(f"\n{problem}" for problem in await certificate_problems(host, cluster, step=step))
    remedy = f"see `tercet deploy logs {host.name}`; rerun apply after fixing the cause"
    return HostError(host.name, step, text, remedy=remedy)


async def journal(host: Host, invocation: str, unit: str, *, step: str) -> list[str]:
    """The last lines of this invocation of the unit, including systemd's."""
    run = shlex.quote(invocation)
    which = f"_SYSTEMD_INVOCATION_ID={run} + INVOCATION_ID={run}" if invocation else f"-u {unit}"
    command = f"journalctl --sync 2>/dev/null; journalctl {which} -n {_JOURNAL_LINES} -o cat --no-pager -q"
    done = await host.run(command, step=step)
    return [line.rstrip() for line in done.stdout.decode("utf-8", "replace").splitlines() if line.strip()]


async def certificates_on(host: Host, cluster: Cluster, *, step: str = "read certificates") -> dict[str, bytes]:
    """Certificates and CAs of the member on the host, by path. Keys are not read."""
    if cluster.adopted:
        flags = await running_flags(host, cluster, step=step)
        paths = dict.fromkeys(flags[name] for name in _CERTIFICATE_FLAGS if flags.get(name))
    else:
        files = certificate_files(cluster)
        paths = dict.fromkeys(path for role, path in files.items() if not role.endswith("-key"))
    if not paths:
        return {}
    command = "; ".join(f"echo {shlex.quote(f'== {path}')}; cat {shlex.quote(path)} 2>/dev/null; echo" for path in paths)
    out = (await host.run(command, step=step)).stdout
    found: dict[str, bytes] = {}
    for part in re.split(rb"(?m)^== ", out)[1:]:
        path, _, content = part.partition(b"\n")
        if certificates := _PEM.findall(content):
            found[path.decode("utf-8", "replace")] = b"".join(certificates)
    return found


async def certificate_days(host: Host, cluster: Cluster) -> float | None:
    """Days until the first of the member's certificates expires; None if there is none."""
    if not cluster.tls.enabled:
        return None
    days: list[float] = []
    for content in (await certificates_on(host, cluster)).values():
        try:
            days.append(days_left(content))
        except ConfigError:
            continue  # unreadable; `certificate_problems` reports it
    return min(days, default=None)


async def certificate_problems(host: Host, cluster: Cluster, *, step: str) -> list[str]:
    """Why the certificates on this host would be rejected, by the host's clock."""
    clock = await host.check("date +%s", step=step)
    now = datetime.fromtimestamp(int(clock), UTC)
    found = await certificates_on(host, cluster, step=step)
    files = certificate_files(cluster)
    problems: list[str] = []
    for role, ca in (("server", "ca"), ("peer", "peer-ca")):
        path = files[role]
        if path not in found or files[ca] not in found:
            problems.append(f"{path if path not in found else files[ca]}: no certificate in this file")
            continue
        why = explain(found[path], ca_pem=found[files[ca]], host=host.spec.address, now=now)
        problems += [f"{path}: {problem}" for problem in why]
    return list(dict.fromkeys(problems))


def _unit(cluster: Cluster) -> str:
    return f"{cluster.service.unit}.service"
