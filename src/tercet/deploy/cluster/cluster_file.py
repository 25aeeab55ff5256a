"""Loading cluster.yaml: a `Cluster`, or all errors in the file at once, each with line and field.

    cluster.yaml:12: hosts[1].address: '172.27.129.300' is not an IP address ...
    cluster.yaml:20: listen.cleint_port: unknown field; did you mean client_port?

Stages: YAML with line numbers (`yaml_document`), the schema (`document`, `settings`), consistency checks (`checks`,
`engine_flags`), and inheritance by hosts (here). Nothing but the file itself is read.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tercet.deploy.cluster.checks import check_document, check_entries, check_flags, check_members
from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.document import SECTIONS, Document
from tercet.deploy.cluster.problems import ClusterFileError, Findings, describe
from tercet.deploy.cluster.schema_errors import location_of, sentence, without_duplicates
from tercet.deploy.cluster.settings import (
    INSTALL_DIRECTORIES,
    BackupSettings,
    EngineSettings,
    Listen,
    Paths,
    ServiceSettings,
    SshSettings,
    TlsSettings,
)
from tercet.deploy.cluster.yaml_document import YamlDocument, parse_yaml, read_yaml

__all__ = [
    "BackupSettings",
    "Cluster",
    "ClusterFileError",
    "EngineSettings",
    "HostSpec",
    "Listen",
    "Paths",
    "ServiceSettings",
    "SshSettings",
    "TlsSettings",
    "load",
    "parse",
]

_SCHEMA: TypeAdapter[Document] = TypeAdapter(Document)
_TEXT_FIELDS = (("auto_compaction_retention",), ("engine", "version"), ("engine", "sha256"), ("name",), ("token",))
"""Text fields whose value YAML may parse as a number; the literal text is used."""


def load(path: Path) -> Cluster:
    """Load a cluster file. Raises ClusterFileError, a ConfigError, with every error in it."""
    return _interpret(read_yaml(path), path)


def parse(text: str, path: Path) -> Cluster:
    """As `load`, from text. path: for messages and relative paths."""
    return _interpret(parse_yaml(text.encode(), path), path)


def _interpret(yaml: YamlDocument, path: Path) -> Cluster:
    found = Findings(yaml)
    for location, line, text in yaml.errors:
        found.error(location, text, line=line)
    if not isinstance(yaml.value, dict):
        what = "the file is empty" if yaml.value is None else "the file is not a mapping"
        found.error((), f"{what}; create one with `tercet deploy init`")
        raise ClusterFileError(path, found.errors)
    value = _as_written(yaml)
    check_entries(value.get("hosts"), found)
    check_flags(value, found)
    document = _validate(value, path.absolute().parent, found)
    if found.errors:
        raise ClusterFileError(path, sorted(found.errors))
    cluster = _complete(document, value, yaml, path)
    return dataclasses.replace(cluster, warnings=tuple(describe(path, warning) for warning in sorted(found.warnings)))


def _as_written(yaml: YamlDocument) -> dict[str, Any]:
    """The raw values, with text fields as written, and sections without values as empty."""
    value: dict[str, Any] = yaml.value
    for location in _TEXT_FIELDS:
        holder = value if len(location) == 1 else value.get(location[0])
        if isinstance(holder, dict) and isinstance(holder.get(location[-1]), int | float | bool):
            holder[location[-1]] = yaml.texts[location]
    hosts = value.get("hosts")
    entries = [entry for entry in hosts if isinstance(entry, dict)] if isinstance(hosts, list) else []
    for holder in (value, *entries):
        for name in (*SECTIONS, "flags"):
            if name in holder and holder[name] is None:
                del holder[name]
    for number, entry in enumerate(hosts if isinstance(hosts, list) else []):
        if isinstance(entry, dict):
            _spell_flags(entry.get("flags"), ("hosts", number, "flags"), yaml)
            if isinstance(entry.get("name"), int | float | bool):
                entry["name"] = yaml.texts[("hosts", number, "name")]
    _spell_flags(value.get("flags"), ("flags",), yaml)
    value.setdefault("tls", {})  # so that tls.directory is resolved relative to the file even without a tls section
    return value


def _spell_flags(flags: Any, location: tuple[str | int, ...], yaml: YamlDocument) -> None:
    """Flag values are text: `true`, `100` and `1_000` are passed on as written, not as parsed by YAML."""
    if isinstance(flags, dict):
        for name, given in flags.items():
            if isinstance(given, int | float | bool):
                flags[name] = yaml.texts[(*location, name)]


def _validate(value: dict[str, Any], directory: Path, found: Findings) -> Document:
    """Validate by the schema. Invalid sections are replaced by defaults, so that the other checks still run."""
    context = {"directory": directory}
    try:
        document = _SCHEMA.validate_python(value, context=context)
    except ValidationError as error:
        details = error.errors(include_url=False)
        for detail in without_duplicates(details):
            found.error(location_of(detail), sentence(detail))
        bad = {detail["loc"][0] for detail in details}
        rest = {name: part for name, part in value.items() if name not in bad}
        document = _SCHEMA.validate_python({"name": "unnamed", "hosts": [], **rest}, context=context)
        are_hosts_valid = "hosts" not in bad
    else:
        are_hosts_valid = True
    check_document(document, found)
    if are_hosts_valid:
        check_members(document, found)
    return document


def _complete(document: Document, value: dict[str, Any], yaml: YamlDocument, path: Path) -> Cluster:
    """Fill in defaults that depend on other fields, and what hosts inherit."""
    paths = document.paths
    if "install" not in value.get("paths", {}):
        paths = dataclasses.replace(paths, install=INSTALL_DIRECTORIES[document.engine.kind])
    hosts = tuple(
        HostSpec(
            name=entry.name,
            address=entry.address,
            ssh=_inherit(document.ssh, entry.ssh, value["hosts"][number].get("ssh", {})),
            flags=entry.flags,
            line=yaml.line(("hosts", number)),
        )
        for number, entry in enumerate(document.hosts)
    )
    return Cluster(
        name=document.name,
        token=document.token or document.name,
        path=path.absolute(),
        engine=document.engine,
        hosts=hosts,
        ssh=document.ssh,
        tls=document.tls,
        paths=paths,
        service=document.service,
        listen=document.listen,
        backups=document.backups,
        flags=document.flags,
        quota_backend_bytes=document.quota_backend_bytes,
        auto_compaction_mode=document.auto_compaction_mode,
        auto_compaction_retention=document.auto_compaction_retention,
        adopted=document.adopted,
    )


def _inherit(all_hosts: SshSettings, one: SshSettings, given: dict[str, Any]) -> SshSettings:
    """The global settings overridden by the fields that this host sets."""
    return dataclasses.replace(all_hosts, **{name: getattr(one, name) for name in given})
