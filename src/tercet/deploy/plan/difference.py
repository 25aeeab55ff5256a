"""Diffs for the plan. Of a secret only the fact of its change is shown."""

from __future__ import annotations

import difflib

from tercet.deploy.facts.facts import FileFact
from tercet.deploy.plan.certificates import MISSING, fingerprint
from tercet.deploy.plan.desired import DesiredFile
from tercet.pki import names
from tercet.pki.certificate import parse_certificates


def of_text(path: str, old: str | None, new: str) -> str:
    """A unified diff. old: None if there is no file."""
    before = "/dev/null" if old is None else path
    lines = difflib.unified_diff((old or "").splitlines(), new.splitlines(), before, path, lineterm="", n=3)
    return "\n".join(lines)


def of_certificate(file: DesiredFile, old: FileFact) -> str:
    """A certificate or key: names, fingerprint, expiry."""
    state = "changed" if old.exists else "new"
    pair = file.pair
    if pair is None:
        return state
    mark = f"SHA-256 {fingerprint(pair.pem)}" if pair.pem is not None else "to be created"
    if file.secret:
        return f"{state} key of the {pair.title}, {mark}"
    if pair.pem is None:
        return pair.describe() if pair.reason == MISSING else f"{state}: {pair.describe()}"
    certificate = parse_certificates(pair.pem, pair.title)[0]
    hosts = names.hosts_of(certificate)
    parts = [f"{state} {pair.title}", mark, *([f"names {', '.join(hosts)}"] if hosts else [])]
    return "; ".join([*parts, f"expires {certificate.not_valid_after_utc:%Y-%m-%d}"])


def of_permissions(old: FileFact, *, mode: int, owner: str, group: str) -> str:
    """Mode and owner, one line per difference; "" if there is none."""
    lines = [f"mode {old.mode:04o} -> {mode:04o}"] if old.mode != mode else []
    if (old.owner, old.group) != (owner, group):
        lines.append(f"owner {old.owner}:{old.group} -> {owner}:{group}")
    return "\n".join(lines)
