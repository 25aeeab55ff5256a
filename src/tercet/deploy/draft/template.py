"""The text of a new cluster.yaml: known settings, and every other field as a comment with its default.

Generated from the schema, so that it is complete; removing the `# ` of any line gives a valid file.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from tercet.deploy.cluster.document import SECTIONS, Document
from tercet.deploy.cluster.settings import INSTALL_DIRECTORIES, EngineKind
from tercet.deploy.cluster.yaml_scalar import scalar
from tercet.deploy.draft.draft import CLUSTER_NAME, Draft, printable

WIDTH = 118
_COMMENT_COLUMN = 36
EXAMPLE_HOSTS = (("node1", "192.0.2.11"), ("node2", "192.0.2.12"), ("node3", "192.0.2.13"))
"""Addresses reserved for documentation, so that an unedited file affects no real hosts."""
EXAMPLE_SOURCE = "etcd-linux-amd64.tar.gz"
EXAMPLES: dict[str, Any] = {
    "token": CLUSTER_NAME,
    "engine.source": "bundle.tar.gz",
    "engine.sha256": "0" * 64,
    "engine.version": "3.5.21",
    "engine.python": "python3",
    "ssh.user": "root",
    "ssh.port": 22,
    "ssh.key": "~/.ssh/id_ed25519",
    "ssh.jump": "admin@gateway:22",
    "ssh.config": "~/.ssh/config",
    "ssh.known_hosts": "~/.ssh/known_hosts",
    "tls.ca_certificate": "ca.pem",
    "tls.ca_key": "ca-key.pem",
    "tls.key_algorithm": "ecdsa",
    "tls.key_size": 256,
    "tls.names": {"O": "example", "OU": "platform"},
    "tls.extra_hosts": ["etcd.example.com"],
    "paths.bin": "/usr/local/bin",
    "paths.wal": "/var/lib/etcd-wal",
    "paths.work": "/var/lib/etcd",
    "service.group": "etcd",
    "service.options": {"OOMScoreAdjust": "-900"},
    "listen.metrics_url": "http://0.0.0.0:2381",
    "backups.recipient": "age1tps3suvztzpvgx58mpdhe7nl87uw4t445m5sve6utvlvhsh8matq5phw7w",
    "backups.to": "s3://bucket/etcd",
    "backups.credentials": "aws.env",
    "quota_backend_bytes": "8GiB",
    "flags": {"heartbeat-interval": "100", "election-timeout": "1000"},
}
"""Examples for fields without a default, or whose default is better shown in another form."""
_HOST_EXAMPLE = "# ssh: {user: root, port: 22}   # for this host only; `host` may be an alias of ~/.ssh/config"
_FOLLOWS = {"paths.work": "data", "service.group": "user"}
"""Fields whose default is the value of another field in the section."""
_NOT_FOR_ALL = {("ssh", "host")}


def commented_template(
    hosts: Sequence[tuple[str, str]] = EXAMPLE_HOSTS, *, name: str = CLUSTER_NAME, engine: EngineKind = "tercet"
) -> str:
    """A new cluster file. hosts: (name, address) of each member."""
    draft = Draft(name=name, hosts=list(hosts))
    set_engine(draft, engine)
    return render(draft)


def set_engine(draft: Draft, engine: EngineKind) -> None:
    """Set the engine. etcd requires a release tarball, so the file gets an example source and a note."""
    draft.set("engine", "kind", engine)
    if engine == "etcd" and "source" not in draft.settings["engine"]:
        draft.set("engine", "source", EXAMPLE_SOURCE)
        draft.note(f"engine.source: {EXAMPLE_SOURCE} is an example; set the tarball of the release to run.")


def render(draft: Draft, *, origin: str = "") -> str:
    """The text. origin: the imported files."""
    lines = [*_head(draft, origin), "", *_fields(Document, "", draft, only=("name", "token", "adopted")), "", *_hosts(draft)]
    for section, kind in SECTIONS.items():
        doc = " ".join((kind.__doc__ or "").split())
        lines += ["", f"# {doc}", f"{section}:", *_fields(kind, section, draft)]
    rest = ("quota_backend_bytes", "auto_compaction_mode", "auto_compaction_retention")
    lines += ["", "# Database size limit and compaction of old revisions.", *_fields(Document, "", draft, only=rest)]
    lines += ["", *_flags(draft)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _head(draft: Draft, origin: str) -> Iterator[str]:
    source = f", imported from {printable(origin)}" if origin else ""
    yield f"# Cluster file of tercet deploy{source}."
    yield "# `tercet deploy plan` shows the changes, `tercet deploy apply` makes them."
    yield "# Commented fields show their default, or an example if there is none."
    if draft.notes:
        yield "#"
        yield "# Notes:"
    for note in draft.notes:
        yield from textwrap.wrap(note, WIDTH, initial_indent="# - ", subsequent_indent="#   ", **_WHOLE_WORDS)


_WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def _hosts(draft: Draft) -> Iterator[str]:
    yield "# The members, one per host. Three tolerate the failure of one, five of two."
    yield "hosts:"
    for number, (name, address) in enumerate(draft.hosts):
        yield f"  - name: {scalar(name)}"
        yield f"    address: {scalar(address)}"
        if number == 0:
            yield f"    {_HOST_EXAMPLE}"


def _flags(draft: Draft) -> Iterator[str]:
    yield "# Additional flags of the engine, without dashes; under a host, for its member only."
    yield "flags:"
    for name, text in (draft.flags or EXAMPLES["flags"]).items():
        yield f"  {'' if draft.flags else '# '}{name}: {scalar(text, is_text=bool(draft.flags))}"


def _fields(kind: Any, section: str, draft: Draft, *, only: Sequence[str] = ()) -> Iterator[str]:
    given = draft.settings.get(section, {})
    indent = "  " if section else ""
    for name, info in kind.__pydantic_fields__.items():
        if (only and name not in only) or (section, name) in _NOT_FOR_ALL:
            continue
        if (section, name) == ("", "name"):
            setting = f"name: {scalar(draft.name)}"
        elif name in given:
            setting = f"{indent}{name}: {scalar(given[name])}"
        else:
            setting = f"{indent}# {name}: {_default(section, name, info.default, draft)}"
        yield from _with_comment(setting, info.description or "")


def _default(section: str, name: str, default: Any, draft: Draft) -> str:
    place = f"{section}.{name}" if section else name
    if place == "paths.install":
        return INSTALL_DIRECTORIES[str(draft.settings.get("engine", {}).get("kind", "tercet"))]
    if place == "paths.ca":
        return f"{draft.settings.get('paths', {}).get('certificates', '/etc/etcd/cert')}/ca.pem"
    if place in _FOLLOWS:
        leader = _FOLLOWS[place]
        return scalar(draft.settings.get(section, {}).get(leader, EXAMPLES[place]))
    if place == "token":
        return scalar(draft.name)
    return scalar(EXAMPLES.get(place, default))


def _with_comment(setting: str, text: str) -> Iterator[str]:
    """The comment beside the setting, continued on the next lines."""
    column = max(_COMMENT_COLUMN, len(setting) + 2)
    if column > WIDTH - 40:  # a long value: the comment goes above it
        yield from textwrap.wrap(text, WIDTH, initial_indent="  # ", subsequent_indent="  # ", **_WHOLE_WORDS)
        yield setting
        return
    first, *more = textwrap.wrap(text, WIDTH - column - 2, **_WHOLE_WORDS)
    yield f"{setting:<{column}}# {first}"
    for line in more:
        yield f"{'':<{column}}# {line}"
