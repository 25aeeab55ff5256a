"""Would a deployment succeed? All that stands in its way, at once, each with its remedy, before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "ok"]


@dataclass(frozen=True)
class Finding:
    """What one check found on one host. remedy: what the operator can do; empty where the level is "ok"."""

    host: str
    check: str
    level: Level
    text: str
    remedy: str = ""
