"""The fields of a log line, which stand beside its message as in etcd's structured logs.

    logger.info("added a user", extra=fields(user_name="ann"))      {"msg":"added a user","user-name":"ann", ...}

etcd's messages are constant texts, so that they can be searched for; what varies is in fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_LENGTH_MAX: Final = 4096  # of a text; names of users and roles may have a megabyte, and a user a thousand roles
_ITEMS_MAX: Final = 100


def fields(named: Mapping[str, object] | None = None, /, **more: object) -> dict[str, object]:
    """`extra=` of a logging call. A keyword `data_dir` becomes the field "data-dir"; names in `named` are kept as they are.

    Very long values are shortened.
    """
    shown = {name: _shortened(value) for name, value in (named or {}).items()}
    for name, value in more.items():
        shown[name.replace("_", "-")] = _shortened(value)
    return {"fields": shown}


def _shortened(value: object) -> object:
    if isinstance(value, str) and len(value) > _LENGTH_MAX:
        return f"{value[:_LENGTH_MAX]}... ({len(value)} characters)"
    if isinstance(value, bytes) and len(value) > _LENGTH_MAX:
        return value[:_LENGTH_MAX] + b"... (%d bytes)" % len(value)
    if isinstance(value, list):
        shown = [_shortened(one) for one in value[:_ITEMS_MAX]]
        return [*shown, f"... ({len(value)} items)"] if len(value) > _ITEMS_MAX else shown
    return value
