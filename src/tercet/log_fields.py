"""The fields of a log line, which stand beside its message as in etcd's structured logs.

    logger.info("added a user", extra=fields(user_name="ann"))      {"msg":"added a user","user-name":"ann", ...}

etcd's messages are constant texts, so that they can be searched for; what varies is in fields.
"""

from __future__ import annotations

from collections.abc import Mapping


def fields(named: Mapping[str, object] | None = None, /, **more: object) -> dict[str, object]:
    """`extra=` of a logging call. A keyword `data_dir` becomes the field "data-dir"; names in `named` are kept as they are."""
    return {"fields": {**(named or {}), **{name.replace("_", "-"): value for name, value in more.items()}}}
