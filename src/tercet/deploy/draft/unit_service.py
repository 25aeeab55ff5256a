"""Import of a unit: user, limits and restarts of the service."""

from __future__ import annotations

import contextlib
import re

from tercet.deploy.cluster.field_types import check_plain_text, check_unit_option, check_user
from tercet.deploy.draft.draft import Draft
from tercet.deploy.draft.unit_reading import Unit
from tercet.errors import ConfigError

_SECONDS = {"": 1, "s": 1, "sec": 1, "second": 1, "seconds": 1, "m": 60, "min": 60, "minute": 60, "minutes": 60, "h": 3600}
_DEFAULTS = {"Type": ("notify",), "Restart": ("on-failure", "always")}
_IMPORTED = {
    *("ExecStart", "Environment", "EnvironmentFile", "WorkingDirectory", "User", "Group", "RestartSec", "LimitNOFILE"),
    *("TimeoutStartSec", "TimeoutSec", *_DEFAULTS),
}


def take_service(unit: Unit, draft: Draft, *, is_running: bool) -> None:
    """is_running: the unit of a member, not a template: its settings are kept. Raises ConfigError for an invalid user name."""
    _take_user(unit, draft, is_running=is_running)
    _take_number(unit, draft, "RestartSec", "restart_seconds", default=5, lowest=0, highest=3600)
    _take_number(unit, draft, "LimitNOFILE", "open_files", default=65536, lowest=1024, highest=1 << 30)
    _take_number(unit, draft, "TimeoutStartSec", "start_timeout_seconds", default=60, lowest=1, highest=3600)
    options = _options(unit) if is_running else {}
    if options:
        draft.set("service", "options", options)
    if is_running and not any(unit.last("Service", key) for key in ("ProtectSystem", "NoNewPrivileges")):
        draft.set("service", "hardening", False)
        draft.note("The unit has no sandboxing, so it stays without; service.hardening: true is recommended.")
    for key, usual in _DEFAULTS.items():
        value = unit.last("Service", key)
        if value and value not in usual and key not in options:
            draft.note(f"The unit has {key}={value}; the deployed unit has {key}={usual[0]}.")
    entries = unit.sections.get("Service", [])
    others = [entry.key for entry in entries if entry.key not in _IMPORTED and entry.key not in options]
    if others:
        shown = ", ".join(dict.fromkeys(others))
        draft.note(f"Not imported from [Service]: {shown}; use a drop-in of the unit.")


def _options(unit: Unit) -> dict[str, str]:
    """The settings that service.options can hold: one plain value each."""
    found: dict[str, str] = {}
    for key in dict.fromkeys(entry.key for entry in unit.sections.get("Service", [])):
        values = unit.all("Service", key)
        if len(values) > 1 or (key in _IMPORTED and key != "Restart") or not values[0].value:
            continue
        with contextlib.suppress(ValueError):
            found[check_unit_option(key)] = check_plain_text(values[0].value.replace("%%", "%"))
    if found.get("Restart") == "on-failure":
        del found["Restart"]
    return found


def _take_user(unit: Unit, draft: Draft, *, is_running: bool) -> None:
    for key, name in (("User", "user"), ("Group", "group")):
        for entry in unit.all("Service", key)[-1:]:
            try:
                user = check_user(entry.value)
            except ValueError as error:
                raise ConfigError(f"{unit.path}:{entry.line}: {key}: {error}") from error
            if user != ("etcd" if key == "User" else draft.settings.get("service", {}).get("user", "etcd")):
                draft.set("service", name, user)
    if not unit.last("Service", "User") and is_running:
        draft.set("service", "user", "root")
        draft.note("The unit runs as root, which stays so; a user of its own is recommended (service.user).")
    elif not unit.last("Service", "User"):
        draft.note("The unit runs as root; the deployed member runs as service.user, which will own the data directory.")


def _take_number(unit: Unit, draft: Draft, key: str, name: str, *, default: int, lowest: int, highest: int) -> None:
    text = unit.last("Service", key)
    if not text:
        return
    found = re.fullmatch(r"(\d{1,12})\s*([a-z]*)", text)
    if found is None or found[2] not in _SECONDS or not lowest <= int(found[1]) * _SECONDS[found[2]] <= highest:
        draft.note(f"The unit has {key}={text}; the deployed unit has {default} (service.{name}).")
    elif (number := int(found[1]) * _SECONDS[found[2]]) != default:
        draft.set("service", name, number)
