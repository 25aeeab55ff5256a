"""The Prometheus rules file."""

from __future__ import annotations

import json

from tercet.cli.metrics.alerts import ALERTS, SELECTOR


def rules(matcher: str) -> str:
    """YAML. matcher: of the members' series, such as `job=~"etcd"`."""
    lines = ["groups:", "- name: tercet", "  rules:"]
    for alert in ALERTS:
        lines += [
            f"  - alert: {alert.name}",
            f"    expr: {_quoted(alert.expression.replace(SELECTOR, matcher))}",
            f"    for: {alert.wait}",
            "    labels:",
            f"      severity: {alert.severity}",
            "    annotations:",
            f"      summary: {_quoted(alert.summary)}",
            f"      description: {_quoted(alert.remedy)}",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A YAML string: JSON's strings are a part of YAML's."""
    return json.dumps(text, ensure_ascii=False)
