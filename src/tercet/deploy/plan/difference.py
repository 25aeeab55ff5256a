"""What would change, as text that people read before they say yes. Of a secret it says that it changes, never what it is."""

from __future__ import annotations

import difflib

from tercet.deploy.facts.facts import FileFact
from tercet.deploy.plan.certificates import NOT_YET, fingerprint
from tercet.deploy.plan.desired import DesiredFile
from tercet.pki import names
from tercet.pki.certificate import parse_certificates


def of_text(path: str, old: str | None, new: str) -> str:
    """A unified diff. old: None where there is no file yet."""
    before = "/dev/null" if old is None else path
    lines = difflib.unified_diff((old or "").splitlines(), new.splitlines(), before, path, lineterm="", n=3)
    return "\n".join(lines)


def of_certificate(file: DesiredFile, old: FileFact) -> str:
    """A certificate, an authority or a key, by whom it is for and how it is told from others."""
    state = "changed" if old.exists else "new"
    pair = file.about
    if pair is None:
        return state
    mark = f"SHA-256 {fingerprint(pair.pem)}" if pair.pem is not None else "to be made"
    if file.secret:
        return f"{state} key of the {pair.title}, {mark}"
    if pair.pem is None:
        return pair.describe() if pair.reason == NOT_YET else f"{state}: {pair.describe()}"
    certificate = parse_certificates(pair.pem, pair.title)[0]
    hosts = names.hosts_of(certificate)
    parts = [f"{state} {pair.title}", mark, *([f"names {', '.join(hosts)}"] if hosts else [])]
    return "; ".join([*parts, f"until {certificate.not_valid_after_utc:%Y-%m-%d}"])


def of_rights(old: FileFact, *, mode: int, owner: str, group: str) -> str:
    """Mode and owner, one line each that differs; "" if none does."""
    lines = [f"mode {old.mode:04o} -> {mode:04o}"] if old.mode != mode else []
    if (old.owner, old.group) != (owner, group):
        lines.append(f"owner {old.owner}:{old.group} -> {owner}:{group}")
    return "\n".join(lines)
