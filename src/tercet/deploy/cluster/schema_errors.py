"""Error messages for pydantic's schema errors. The caller adds line and field."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

from tercet.deploy.cluster.document import SECTIONS, Document, HostEntry
from tercet.deploy.cluster.yaml_document import Location

_KEY = "[key]"


def location_of(error: ErrorDetails) -> Location:
    """The location; an invalid key of a mapping is reported at the key itself."""
    return tuple(part for part in error["loc"] if part != _KEY)


def sentence(error: ErrorDetails) -> str:
    """The message, which follows the field's name."""
    given = error["input"]
    context: dict[str, Any] = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return str(context["error"])
        case "missing" | "missing_argument" | "missing_keyword_only_argument":
            return "is required"
        case "unexpected_keyword_argument" | "extra_forbidden":
            return _unknown(location_of(error))
        case "literal_error":
            return f"{_shown(given)} is not {context['expected']}"
        case "string_type" | "path_type":
            return _not_text(given)
        case "bool_type":
            return f"{_shown(given)} is not true or false"
        case "int_type" | "int_from_float" | "int_parsing" | "float_type" | "float_parsing":
            return f"{_shown(given)} is not a number"
        case "greater_than_equal":
            return f"{_shown(given)} is below the minimum of {context['ge']}"
        case "less_than_equal":
            return f"{_shown(given)} is above the maximum of {context['le']}"
        case "list_type":
            return f"{_shown(given)} is not a list; each entry starts with a dash"
        case "dict_type" | "dataclass_type" | "dataclass_exact_type":
            return f"{_shown(given)} is not a mapping"
    return error["msg"].lower()


def _shown(given: object) -> str:
    if given is None:
        return "nothing"
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, dict):
        return "a mapping"
    if isinstance(given, list):
        return "a list"
    text = repr(given)
    return text if len(text) <= 60 else f"{text[:56]}...'"


def _not_text(given: object) -> str:
    if given is None:
        return "has no value"
    if isinstance(given, list | dict):
        return f"{_shown(given)} is not text"
    return f"is parsed as the {'boolean' if isinstance(given, bool) else 'number'} {_shown(given)}; quote it"


def fields_at(parent: Location) -> Sequence[str]:
    """The fields of the schema at this location; none for a mapping with free keys."""
    kinds: dict[str, Any] = {"hosts": HostEntry, **SECTIONS}
    names = [part for part in parent if isinstance(part, str)]
    kind = kinds.get(names[-1]) if names else Document
    return [field.name for field in dataclasses.fields(kind)] if kind else []


def without_duplicates(details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Drop "is required" for a field that is reported as misspelt."""
    meant = {(*place[:-1], _meant(place)) for place in map(location_of, details) if _is_unknown(place)}
    return [detail for detail in details if not (detail["type"].startswith("missing") and location_of(detail) in meant)]


def _is_unknown(location: Location) -> bool:
    return bool(location) and location[-1] not in fields_at(location[:-1])


def _meant(location: Location) -> str:
    return _near(location[-1], fields_at(location[:-1]))


def _near(name: object, fields: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(name).replace("-", "_").lower(), fields, n=1, cutoff=0.7)
    return near[0] if near else ""


def _unknown(location: Location) -> str:
    """A misspelt field, or a field of another level (wrong indentation)."""
    name, parent = location[-1], location[:-1]
    meant = _meant(location)
    if meant:
        return f"unknown field; did you mean {meant}?"
    homes = [f"{section}.{near}" for section in SECTIONS if (near := _near(name, fields_at((section,))))]
    if near := _near(name, fields_at(())):
        homes.insert(0, f"{near}, at the top level")
    if homes:
        return f"unknown field here; did you mean {homes[0]}?"
    return f"unknown field; known here: {', '.join(fields_at(parent))}"
