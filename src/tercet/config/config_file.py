"""Flags from `--config-file`: a YAML or JSON map whose keys are flag names or the paths of the flag table.

A file replaces all other sources. etcd decodes the file through JSON into typed fields: unknown keys are ignored, and a value
of the wrong type is reported with the text of Go's JSON decoder:

    json: cannot unmarshal string into Go struct field configYAML.heartbeat-interval of type uint
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tercet.config.flag_table import FLAGS, RETIRED
from tercet.config.flags import Flag, Kind, Retired, Value
from tercet.config.startup_error import StartupError
from tercet.errors import ConfigError
from tercet.gotext.json import json_number

_BYTES_MAX = 1 << 20
_UNMARSHAL = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal"
_INTEGER_BOUNDS = {
    "uint": (0, (1 << 64) - 1),
    "uint64": (0, (1 << 64) - 1),
    "uint32": (0, (1 << 32) - 1),
    "int": (-(1 << 63), (1 << 63) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "time.Duration": (-(1 << 63), (1 << 63) - 1),
}
_STRUCTS = {
    "client-transport-security": "embed.securityConfig",
    "peer-transport-security": "embed.securityConfig",
    "socket-options": "transport.SocketOpts",
    "discovery-config": "v3discovery.DiscoveryConfig",
    "discovery-config.client": "clientv3.ConfigSpec",
    "discovery-config.client.secure": "clientv3.SecureConfig",
    "discovery-config.client.auth": "clientv3.AuthConfig",
}
"""etcd's types of the nested maps; the top level is embed.configYAML."""


def read_config_file(path: str) -> dict[str, Value]:
    """Values of the flags that the file sets, retired names included.

    Raises ConfigError with etcd's text; StartupError for a URL that does not parse, which etcd prints as plain text.
    """
    document = _load(path)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{_UNMARSHAL} {_json_type(document)} into Go value of type embed.configYAML")
    values: dict[str, Value] = {}
    texts: dict[str, str] = {}
    rows = {flag.path: flag for flag in FLAGS.values() if flag.path} | {(flag.name,): flag for flag in RETIRED.values()}
    for keys, given in _leaves(document, (), rows):
        flag = rows[keys]
        value = _decode(flag, keys, given)
        if isinstance(value, str):
            texts[flag.name] = value
        else:
            values[flag.name] = value
    for name, text in texts.items():  # etcd checks the types of the whole file before it parses URLs and gates
        values |= _from_text(rows[FLAGS[name].path if name in FLAGS else (name,)], text)
    return values


def _load(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            content = file.read(_BYTES_MAX + 1)
    except OSError as error:
        # Go opens a directory like a file, and fails when it reads.
        action = "read" if isinstance(error, IsADirectoryError) else "open"
        raise ConfigError(f"{action} {path}: {(error.strerror or str(error)).lower()}") from error
    if len(content) > _BYTES_MAX:
        raise ConfigError(f"{path}: a config file of more than {_BYTES_MAX} bytes is refused")
    from tercet.config.go_yaml import load  # PyYAML takes a twentieth of the start of a member, which most do not need

    return load(content)


def _leaves(
    mapping: Mapping[Any, Any], parents: tuple[str, ...], rows: Mapping[tuple[str, ...], Flag | Retired]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, value) of each known key, sorted by name: etcd reports the first error in this order."""
    depth = len(parents)
    canonical = {path[depth].lower(): path[depth] for path in rows if len(path) > depth and path[:depth] == parents}
    for key in sorted(mapping, key=str):
        name = canonical.get(str(key).lower())
        if name is None or mapping[key] is None:
            continue
        keys = (*parents, name)
        if keys in rows:
            yield keys, mapping[key]
        elif isinstance(mapping[key], dict):
            yield from _leaves(mapping[key], keys, rows)
        else:
            raise ConfigError(_mismatch(mapping[key], keys, _STRUCTS[".".join(keys)]))


def _decode(flag: Flag | Retired, keys: tuple[str, ...], given: Any) -> Value:
    """The value of a leaf, with its type checked; texts are parsed later."""
    go_type = flag.go_type if isinstance(flag, Flag) else _retired_type(flag)
    if go_type == "string":
        if not isinstance(given, str):
            raise ConfigError(_mismatch(given, keys, go_type))
        return given
    if go_type == "bool":
        if not isinstance(given, bool):
            raise ConfigError(_mismatch(given, keys, go_type))
        return given
    if go_type == "[]string":
        return _decode_list(flag, keys, given)
    number = int(given) if isinstance(given, float) and given.is_integer() else given
    lowest, highest = _INTEGER_BOUNDS[go_type]
    if isinstance(number, bool) or not isinstance(number, int) or not lowest <= number <= highest:
        raise ConfigError(_mismatch(given, keys, go_type, with_number=True))
    return number


def _decode_list(flag: Flag | Retired, keys: tuple[str, ...], given: Any) -> tuple[str, ...]:
    if not isinstance(given, list):
        raise ConfigError(_mismatch(given, keys, "[]string"))
    for item in given:
        if not isinstance(item, str):
            raise ConfigError(_mismatch(item, keys, "string"))
    return tuple(sorted(set(given))) if flag.kind is Kind.SET else tuple(given)


def _retired_type(flag: Retired) -> str:
    if flag.now:
        return FLAGS[flag.now].go_type
    return {Kind.BOOL: "bool", Kind.UINT: "uint"}.get(flag.kind, "string")


def _mismatch(given: Any, keys: tuple[str, ...], go_type: str, *, with_number: bool = False) -> str:
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    shown = f"number {json_number(given)}" if is_number and with_number else _json_type(given)
    struct = _STRUCTS.get(".".join(keys[:-1]), "embed.configYAML").rpartition(".")[2]
    return f"{_UNMARSHAL} {shown} into Go struct field {struct}.{'.'.join(keys)} of type {go_type}"


def _json_type(given: Any) -> str:
    if isinstance(given, bool):
        return "bool"
    if isinstance(given, int | float):
        return "number"
    if isinstance(given, dict):
        return "object"
    return "array" if isinstance(given, list) else "string"


def _from_text(flag: Flag | Retired, text: str) -> dict[str, Value]:
    """{} where an empty text means "not set"."""
    if flag.kind is Kind.CHOICE:
        return {flag.name: text} if text else {}  # validated with the rest of the configuration
    if not text and flag.kind is not Kind.STRING:
        return {}
    try:
        return {flag.name: flag.parse(text)}
    except ValueError as error:
        if flag.kind is not Kind.URLS:
            raise ConfigError(str(error)) from error
        name = "advertise-peer-urls" if flag.name == "advertise-client-urls" else flag.name  # as etcd prints it
        line = f"unexpected error setting up {name}: {error}"
        raise StartupError(line, error_text=line + "\n") from error
