"""YAML with the line of every value: plain values for the schema, lines for messages.

    hosts:                      value   {"hosts": [{"name": "n1"}]}
      - name: n1                lines   {("hosts",): 1, ("hosts", 0): 2, ("hosts", 0, "name"): 2}
                                texts   {("hosts", 0, "name"): "n1"}

`texts` has scalars as written, for text fields that YAML parses as something else (`version: 3.10`, `pre-vote: on`). Duplicate
keys are errors, as the YAML specification requires. Aliases are expanded with a limit on the number of values, since a small
file can otherwise expand to billions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from tercet.errors import ConfigError

Location: TypeAlias = tuple[str | int, ...]
BYTES_MAX = 1 << 18
VALUES_MAX = 20_000
DEPTH_MAX = 20
_PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null")}
_TEXT = {f"tag:yaml.org,2002:{name}" for name in ("str", "timestamp", "value")}
_COLLECTIONS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_MERGE = "tag:yaml.org,2002:merge"


@dataclass
class YamlDocument:
    """value: dicts, lists and scalars. errors: (location, line, text) of YAML-level errors."""

    value: Any = None
    lines: dict[Location, int] = field(default_factory=dict)
    texts: dict[Location, str] = field(default_factory=dict)
    errors: list[tuple[Location, int, str]] = field(default_factory=list)

    def line(self, location: Location) -> int:
        """The line of this location, or of its nearest ancestor in the file."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


def read_yaml(path: Path) -> YamlDocument:
    """Raises ConfigError for a file that is missing, not YAML, or too large."""
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; create one with `tercet deploy init`, or name another with `-f`") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    return parse_yaml(content, path)


def parse_yaml(content: bytes, path: Path) -> YamlDocument:
    """path: for messages. Raises ConfigError."""
    if len(content) > BYTES_MAX:
        raise ConfigError(f"{path}: larger than {BYTES_MAX} bytes, not a cluster file")
    try:
        node = yaml.compose(content, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: invalid YAML: {_reason(error)}") from error
    except yaml.reader.ReaderError as error:
        line = content.count(b"\n", 0, max(error.position, 0)) + 1
        raise ConfigError(f"{path}:{line}: invalid YAML: {error.reason}") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise ConfigError(f"{path}: invalid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply") from error
    converter = _Converter(path)
    if node is not None:
        converter.document.value = converter.convert(node, ())
    return converter.document


def _reason(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "cannot be parsed"
    if "'\\t'" in problem:
        return "tab used for indentation; use spaces"
    return f"{problem} ({error.context})" if error.context else problem


class _Converter:
    def __init__(self, path: Path) -> None:
        self.document = YamlDocument()
        self._path = path
        self._count = 0
        self._constructor = yaml.constructor.SafeConstructor()

    def convert(self, node: yaml.Node, location: Location) -> Any:
        line = node.start_mark.line + 1
        self.document.lines.setdefault(location, line)
        self._count += 1
        if self._count > VALUES_MAX:
            raise ConfigError(f"{self._path}:{line}: aliases expand to more than {VALUES_MAX} values")
        if len(location) > DEPTH_MAX:
            raise ConfigError(f"{self._path}:{line}: nested more than {DEPTH_MAX} levels deep")
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTIONS:
            self._error(location, line, f"unsupported tag {node.tag}")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return [self.convert(item, (*location, number)) for number, item in enumerate(node.value)]
        return self._scalar(node, location)

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        own: dict[str, int] = {}
        values: dict[str, Any] = {}
        for key, item in self._entries(node, location):
            line = key.start_mark.line + 1
            place = (*location, key.value)
            if key.value in own:
                self._error(place, line, f"duplicate key; the first is in line {own[key.value]}")
                continue
            own[key.value] = self.document.lines[place] = line
            values[key.value] = self.convert(item, place)
        for source in self._merged(node, location):
            for name, value in source.items():
                values.setdefault(name, value)
        return values

    def _entries(self, node: yaml.MappingNode, location: Location) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._error(location, key.start_mark.line + 1, "keys must be scalars")
            elif key.tag != _MERGE:
                yield key, item

    def _merged(self, node: yaml.MappingNode, location: Location) -> Iterator[dict[str, Any]]:
        """The mappings named by `<<`, nearest first. Their lines are those of the anchor."""
        for key, item in node.value:
            if key.tag != _MERGE:
                continue
            for source in item.value if isinstance(item, yaml.SequenceNode) else [item]:
                if isinstance(source, yaml.MappingNode):
                    yield self._merged_one(source, location)
                else:
                    self._error(location, key.start_mark.line + 1, "<< must refer to a mapping")

    def _merged_one(self, source: yaml.MappingNode, location: Location) -> dict[str, Any]:
        lines, texts = dict(self.document.lines), dict(self.document.texts)
        values = self._mapping(source, location)
        self.document.lines.update(lines)  # keys of the mapping itself keep their own lines
        self.document.texts.update(texts)
        return values

    def _scalar(self, node: yaml.Node, location: Location) -> Any:
        self.document.texts[location] = node.value
        if node.tag in _TEXT:
            return node.value
        if node.tag not in _PLAIN:
            self._error(location, node.start_mark.line + 1, f"unsupported tag {node.tag}")
            return node.value
        try:
            return self._constructor.construct_object(node)
        except (ValueError, yaml.YAMLError):
            self._error(location, node.start_mark.line + 1, f"{node.value!r} does not match its tag")
            return node.value

    def _error(self, location: Location, line: int, text: str) -> None:
        self.document.errors.append((location, line, text))
