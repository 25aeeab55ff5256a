"""Planning of one host: from its facts to the steps that bring it to the target state, in execution order.

    user, directories, release, certificates, units, daemon-reload, enable

Steps never start or stop a member; `HostChange` says whether a restart is needed, and `run/` decides when. Every step can be
repeated after an interruption at any point.

A change that needs a restart is recorded on the host before it is made (`restart_marker_path`), with the InvocationID of the
running member. The record is valid while that invocation runs, even if this process dies, and obsolete after the next start, so
it need not be removed.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.cluster.field_types import check_own_directory
from tercet.deploy.facts.facts import FileFact, HostFacts
from tercet.deploy.facts.preflight_checks import Purpose
from tercet.deploy.plan import backup_program, backup_unit, difference
from tercet.deploy.plan.certificates import Certificates, Pair, create
from tercet.deploy.plan.desired import MARKER_DIRECTORY, Desired, DesiredDirectory, DesiredFile, restart_marker_path, wal_parent
from tercet.deploy.plan.plan import Progress, Step, Work
from tercet.deploy.plan.unit import joining, keep_first_start_flags
from tercet.deploy.release.release import activate_command, install_command, pin_path
from tercet.deploy.ssh.remote import Host, HostError, RemoteFile
from tercet.errors import ConfigError
from tercet.pki import names
from tercet.pki.certificate import parse_certificates

if TYPE_CHECKING:
    from tercet.deploy.release.artifact import Artifact

INSTALL_SECONDS = 300
_RUNS = ("active", "reloading")
_BEGINS = ("activating", "deactivating")


@dataclass(frozen=True)
class HostChange:
    """The changes of one host.

    needs_restart: a process, running or starting, predates a change. is_first_start: there is no data, so the member waits for
    the others. purposes: kinds of work, to which some preflight checks apply.
    """

    steps: tuple[Step, ...]
    needs_restart: bool
    restart_reasons: tuple[str, ...]
    is_first_start: bool
    is_running: bool
    purposes: frozenset[Purpose] = frozenset()


def certificate_steps(cluster: Cluster, certificates: Certificates) -> tuple[Step, ...]:
    """Creation of the pending certificates on the operator's machine, signers first."""
    return tuple(
        Step(
            None,
            f"create {pair.title}",
            _creation(cluster, pair),
            pair.describe(),
        )
        for pair in certificates.pending
    )


Part: TypeAlias = Literal["user", "directories", "copy", "activate", "certificates", "unit", "backups"]
PARTS: tuple[Part, ...] = get_args(Part)


def host_steps(
    cluster: Cluster,
    host: Host,
    facts: HostFacts,
    desired: Desired,
    artifact: Artifact,
    *,
    joins: str = "",
    parts: Collection[Part] = PARTS,
    rotates: bool = False,
) -> HostChange:
    """facts: as requested by `wanted`. joins: the members of the running cluster that this one joins. parts: what to change.

    rotates: the change of a CA is part of a rotation. Raises HostError for rejected changes.
    """
    return _Planner(cluster, host, facts, desired, artifact, joins).change(parts, rotates=rotates)


def has_data(cluster: Cluster, facts: HostFacts) -> bool:
    """Whether the member has started before on this host."""
    return facts.files[f"{cluster.paths.data}/member"].exists


def pinned_release(cluster: Cluster, facts: HostFacts) -> str:
    """The release that a rollback has pinned on this host; "" for none."""
    return (facts.files[pin_path(cluster.paths.install)].content or "").strip()


class _Planner:
    def __init__(
        self, cluster: Cluster, host: Host, facts: HostFacts, desired: Desired, artifact: Artifact, joins: str
    ) -> None:
        self.cluster = cluster
        self.host = host
        self.facts = facts
        self.desired = desired
        self.artifact = artifact
        self.joins = joins
        self.rotates = False
        self.reasons: list[str] = []
        self.purposes: set[Purpose] = set()

    def change(self, parts: Collection[Part], *, rotates: bool) -> HostChange:
        self.rotates = rotates
        if not rotates:
            self._reject_other_cas()
        active = self.facts.unit.active
        has_process = active in (*_RUNS, *_BEGINS)
        if has_process:
            self.reasons += changes_pending_restart(self.cluster, self.facts)
        planners: dict[Part, Callable[[], Iterable[Step]]] = {
            "user": self._user,
            "directories": self._directories,
            "copy": self._release_copy,
            "activate": self._activation,
            "certificates": self._certificates,
            "unit": self._unit,
            "backups": self._backups,
        }
        steps = [step for part, plan in planners.items() if part in parts for step in plan()]
        reasons = tuple(dict.fromkeys(self.reasons)) if has_process else ()
        return HostChange(
            steps=tuple(steps),
            needs_restart=bool(reasons),
            restart_reasons=reasons,
            is_first_start=not self._has_data,
            is_running=active in _RUNS,
            purposes=frozenset(self.purposes | ({"first start"} if not self._has_data else set())),
        )

    def _fact(self, path: str) -> FileFact:
        return self.facts.files[path]

    @property
    def _has_data(self) -> bool:
        return has_data(self.cluster, self.facts)

    # Rejected changes.

    def _reject_other_cas(self) -> None:
        """Members that trust different CAs cannot connect; changing the CA is a rotation, not a change of a file."""
        for file in self.desired.authorities:
            fact = self._fact(file.path)
            if not fact.exists or _is_same_ca(file, fact):
                continue
            if self._is_external(file) or self.facts.unit.active in _RUNS:
                raise HostError(
                    self.host.name,
                    "plan",
                    f"{file.path} contains another CA than this deployment uses: {_subject(fact.content)}",
                    remedy=f"restore its certificate and key in {self.cluster.tls.directory}, or set tls.ca_certificate and "
                    f"tls.ca_key; members that trust different CAs cannot connect to each other",
                )

    def _is_external(self, file: DesiredFile) -> bool:
        """Whether the file is outside our directory, so that others may own and use it."""
        return not file.path.startswith(self.cluster.paths.certificates + "/")

    # The steps.

    def _user(self) -> Iterator[Step]:
        service = self.cluster.service
        if not service.create_user:
            return
        if service.group not in self.facts.groups:
            yield self._command(f"create group {service.group}", f"groupadd --system {service.group}")
        if service.user not in self.facts.users:
            options = f"--system --gid {service.group} --home-dir {self.cluster.paths.data} --no-create-home"
            shell = "$(command -v nologin || echo /usr/sbin/nologin)"
            yield self._command(f"create user {service.user}", f'useradd {options} --shell "{shell}" {service.user}')

    def _directories(self) -> Iterator[Step]:
        for wanted in self.desired.directories:
            fact = self._fact(wanted.path)
            if self._is_wal_parent(wanted):
                if self._fact(self.cluster.paths.wal or "").exists:
                    continue  # once the WAL directory exists, the owner of its parent does not matter
                self._reject_system_directory(wanted.path)
            if fact.kind == "link":  # the operator has put it on another disk and manages it
                continue
            if fact.kind == "file":
                raise HostError(self.host.name, "plan", f"{wanted.path} is a file, not a directory", remedy="move it away")
            if not fact.exists:
                diff = f"new directory, mode {wanted.mode:04o}, owner {wanted.owner}:{wanted.group}"
                yield self._command(f"create {wanted.path}", _install_directory(wanted), diff)
            elif diff := difference.of_permissions(fact, mode=wanted.mode, owner=wanted.owner, group=wanted.group):
                yield self._command(f"set mode and owner of {wanted.path}", _install_directory(wanted), diff)

    def _is_wal_parent(self, directory: DesiredDirectory) -> bool:
        return directory.path == wal_parent(self.cluster) and directory.path != self.cluster.paths.data

    def _reject_system_directory(self, path: str) -> None:
        try:
            check_own_directory(path)
        except ValueError:
            raise HostError(
                self.host.name,
                "plan",
                f"{path} is a system directory, but the member must own the parent of its WAL directory (paths.wal)",
                remedy=f"set paths.wal: {self.cluster.paths.wal}/wal",
            ) from None

    def _release_copy(self) -> Iterator[Step]:
        install, release = self.cluster.paths.install, self.desired.release
        if not self._is_pinned and not self._fact(f"{install}/releases/{release}").exists:
            self.purposes.add("install")
            yield Step(self.host.name, f"copy {release}", self._copy, f"{self.artifact.size >> 20} MiB to {install}/releases")

    def _activation(self) -> Iterator[Step]:
        install, release = self.cluster.paths.install, self.desired.release
        if self._is_pinned:
            return
        wrong = {path: target for path, target in self.desired.links.items() if self._fact(path).target != target}
        if wrong:
            lines = [
                f"{path}: {self._fact(path).target or self._fact(path).kind} -> {target}" for path, target in wrong.items()
            ]
            replaced = [path for path in self.desired.programs if self._fact(path).kind == "file"]
            lines += [f"{path}: the existing file is kept as {path}.replaced; destroy restores it" for path in replaced]
            command = activate_command(self.artifact, install, self.cluster.paths.bin)
            reason = f"release {release}" if f"{install}/current" in wrong else ""
            yield self._command(f"activate {release}", command, "\n".join(lines), reason=reason, timeout=INSTALL_SECONDS)

    @property
    def _is_pinned(self) -> bool:
        """Whether a rollback has pinned another release, which only `upgrade` replaces."""
        return pinned_release(self.cluster, self.facts) not in ("", self.desired.release)

    async def _copy(self, progress: Progress) -> str:
        uploaded = f"{self.cluster.paths.install}/{self.desired.release}.upload"
        step = f"copy {self.desired.release}"

        def on_bytes(done: int, total: int) -> None:
            progress(done, total, "unpacking" if done >= total else "")

        install = self.cluster.paths.install
        if not self._fact(install).exists:  # its step may follow this one: a replacement copies first
            await self.host.check(f"umask 022; mkdir -p -- {shlex.quote(install)}", step=step)
        await self.host.upload(self.artifact.path, uploaded, mode=0o600, step=step, progress=on_bytes)
        command = install_command(self.artifact, self.cluster.paths.install, uploaded)
        await self.host.check(command, timeout=INSTALL_SECONDS, step=step)
        return ""

    def _certificates(self) -> Iterator[Step]:
        for file in self.desired.authorities:
            if self._is_external(file) and not self.rotates and self._fact(file.path).exists:
                continue  # the right CA: others are rejected above
            if diff := self._certificate_diff(file):
                yield self._write([file], diff, reason=f"{file.path} changed" if file.restarts else "")
        # A key and its certificate are replaced together: etcd reads both at each handshake, and refuses it if they differ.
        for _, pair in itertools.groupby(self.desired.files, lambda file: file.pair and file.pair.certificate):
            diffs = [(file, diff) for file in pair if (diff := self._certificate_diff(file))]
            if diffs:
                files = [file for file, _ in diffs]
                reason = f"{files[-1].path} changed" if files[-1].restarts else ""
                yield self._write(files, "\n".join(diff for _, diff in diffs), reason=reason)

    def _certificate_diff(self, file: DesiredFile) -> str:
        """ "" if the file is as wanted."""
        fact = self._fact(file.path)
        if file.content is None:
            self.purposes.add("certificates")
        if file.content is None or fact.sha256 != _sha256(file.content) or fact.kind != "file":
            return difference.of_certificate(file, fact)
        return difference.of_permissions(fact, mode=file.mode, owner=file.owner, group=file.group)

    def _unit(self) -> Iterator[Step]:
        path, unit = self.desired.unit_path, self.cluster.service.unit
        fact = self._fact(path)
        text = keep_first_start_flags(self.desired.unit_text, fact.content, has_data=self._has_data)
        if self.joins and not self._has_data:
            text = joining(text, self.joins)
        is_changed = fact.content != text
        if step := self._text(path, text, reason="unit file changed"):
            yield step
        if is_changed or self.facts.unit.needs_reload or self.facts.unit.load == "not-found":
            yield self._command("daemon-reload", "systemctl daemon-reload")
        if not self.facts.unit.enabled:
            yield self._command(f"enable {unit}.service", f"systemctl enable {unit}.service")

    def _backups(self) -> Iterator[Step]:
        units, link = self.desired.backup_units, backup_unit.enabled_link(self.cluster)
        paths = (*backup_unit.paths(self.cluster), *backup_unit.extra_paths(self.cluster))
        there = [path for path in paths if self._fact(path).exists]
        if not units:
            if there or self._fact(link).exists:
                diff = "\n".join(f"remove {path}" for path in there)
                yield self._command("disable backups", backup_unit.remove_command(self.cluster), diff)
            return
        # The link is removed first: if the steps are interrupted, the timer counts as disabled and the next run repeats them.
        steps = [step for file in self.desired.backup_files if (step := self._backup_file(file, link))]
        steps += [step for path, text in units.items() if (step := self._text(path, text, before=f"rm -f {link}"))]
        yield from steps
        unused = backup_program.credentials_path(self.cluster)
        if self._fact(unused).exists and not self.cluster.backups.credentials:
            yield self._command("remove the credentials of backups", f"rm -f -- {shlex.quote(unused)}", f"remove {unused}")
        if steps or not self._fact(link).exists:
            timer = f"{backup_unit.name(self.cluster)}.timer"
            command = f"systemctl daemon-reload && systemctl restart {timer} && systemctl enable {timer}"
            if check := backup_unit.check_command(self.cluster, self.desired.host):
                command = f"{check} && {command}"
            yield self._command(f"enable {timer}", command)

    def _backup_file(self, file: DesiredFile, link: str) -> Step | None:
        fact = self._fact(file.path)
        diff = difference.of_permissions(fact, mode=file.mode, owner=file.owner, group=file.group)
        if fact.kind != "file" or fact.sha256 != _sha256(file.content or b""):
            diff = difference.of_certificate(file, fact)
        return self._write([file], diff, before=f"rm -f {link}") if diff else None

    # Step constructors.

    def _command(self, title: str, command: str, diff: str = "", *, reason: str = "", timeout: float = 60) -> Step:
        self._note(reason)

        async def work(_progress: Progress) -> str:
            await self._mark(reason, title)
            await self.host.check(command, timeout=timeout, step=title)
            return ""

        return Step(self.host.name, title, work, diff)

    def _write(self, files: Sequence[DesiredFile], diff: str, *, reason: str = "", before: str = "") -> Step:
        title = f"write {files[-1].path}{' and its key' if len(files) > 1 else ''}"
        self._note(reason)

        async def work(_progress: Progress) -> str:
            contents = [RemoteFile(one.path, self._content(one, title), one.mode, one.owner, one.group) for one in files]
            await self._mark(reason, title)
            if before:
                await self.host.check(before, step=title)
            for directory in {one.path.rpartition("/")[0] for one in files if self._is_external(one)}:
                await self.host.check(f"umask 022; mkdir -p {shlex.quote(directory)}", step=title)
            await self.host.write_all(contents, step=title)
            return ""

        return Step(self.host.name, title, work, diff)

    def _text(self, path: str, text: str, *, reason: str = "", before: str = "") -> Step | None:
        """Writes a world-readable file owned by root; None if it is up to date."""
        fact = self._fact(path)
        title = f"write {path}"
        diff = difference.of_text(path, fact.content, text) if fact.content != text else ""
        if fact.kind == "file":
            diff = diff or difference.of_permissions(fact, mode=0o644, owner="root", group="root")
        if not diff:
            return None
        reason = reason if fact.content != text else ""
        self._note(reason)

        async def work(_progress: Progress) -> str:
            await self._mark(reason, title)
            if before:
                await self.host.check(before, step=title)
            await self.host.write(path, text.encode(), mode=0o644, step=title)
            return ""

        return Step(self.host.name, title, work, diff)

    def _content(self, file: DesiredFile, step: str) -> bytes:
        """The content, read from the source path if the plan did not have it."""
        if file.content is not None:
            return file.content
        try:
            if file.source is not None:
                return file.source.read_bytes()
        except OSError as error:
            raise HostError(self.host.name, step, f"cannot read local file {file.source}: {error.strerror}") from error
        raise HostError(self.host.name, step, f"no content for {file.path}")

    def _note(self, reason: str) -> None:
        if reason:
            self.reasons.append(reason)

    async def _mark(self, reason: str, step: str) -> None:
        """Record on the host that the running invocation predates this change."""
        if reason:
            await self.host.check(mark_command(self.cluster, reason), step=step)


def mark_command(cluster: Cluster, reason: str) -> str:
    """A line of sh that records that the running invocation predates a change, as `changes_pending_restart` reads it."""
    unit, path = cluster.service.unit, restart_marker_path(cluster)
    return (
        f"invocation=$(systemctl show --value -p InvocationID {unit}.service) || exit 1; "
        f'[ -z "$invocation" ] || {{ mkdir -p {MARKER_DIRECTORY} && echo "$invocation {reason}" >>{path}; }}'
    )


def changes_pending_restart(cluster: Cluster, facts: HostFacts) -> list[str]:
    """Changes of an interrupted run that the running member has not picked up."""
    lines = (facts.files[restart_marker_path(cluster)].content or "").splitlines()
    noted = (line.partition(" ") for line in lines)
    return [reason for invocation, _, reason in noted if invocation and invocation == facts.unit.invocation]


def _install_directory(wanted: DesiredDirectory) -> str:
    path = shlex.quote(wanted.path)
    return f"umask 022; install -d -m {wanted.mode:04o} -o {wanted.owner} -g {wanted.group} {path}"


def _creation(cluster: Cluster, pair: Pair) -> Work:
    async def work(_progress: Progress) -> str:
        await asyncio.to_thread(create, cluster, pair)
        return ""

    return work


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_same_ca(file: DesiredFile, fact: FileFact) -> bool:
    """Whether one of both trusts all that the other trusts: during a rotation, a file has the new and the replaced CA."""
    try:
        there = set(parse_certificates((fact.content or "").encode(), file.path))
    except ConfigError:
        return False
    ours = set(parse_certificates(file.content, file.path)) if file.content is not None else set()
    return bool(ours) and (ours <= there or there <= ours)


def _subject(pem: str | None) -> str:
    try:
        return names.short_text(parse_certificates((pem or "").encode(), "file")[0].subject)
    except ConfigError:
        return "unreadable certificate"
