"""Results of a comparison and their form as tables, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table

from tercet.bench.arena import System
from tercet.bench.latency import milliseconds
from tercet.bench.workloads import Workload


@dataclass(frozen=True)
class Rate:
    """One measurement. p99, p999: seconds, None where the generator reports none. cpu: processor seconds a request.

    cpu is that of the leader, then that of the busiest follower (0 without followers).
    """

    per_second: float
    p99: float | None = None
    p999: float | None = None
    cpu: tuple[float, float] | None = None

    def rate_text(self) -> str:
        return f"{self.per_second:,.0f}/s"

    def tail_text(self) -> str:
        return " / ".join(milliseconds(tail) for tail in (self.p99, self.p999) if tail is not None) or "-"

    def cpu_text(self) -> str:
        return "-" if self.cpu is None else " + ".join(f"{seconds * 1e6:.0f}" for seconds in self.cpu if seconds)


@dataclass(frozen=True)
class Rest:
    """Cost of a cluster without load. Of one member alone: start_seconds and start_cpu_seconds, from exec to healthy.

    idle_cpu: processor seconds a second of the busiest member of three; idle_wakeups: its voluntary context switches a second.
    """

    start_seconds: float
    start_cpu_seconds: float
    idle_cpu: float
    idle_wakeups: float


Results = dict[str, dict[str, list[Rate]]]
"""Workload, then system, then one rate a round."""


@dataclass(frozen=True)
class Line:
    """One workload, medians over all rounds."""

    workload: Workload
    baseline: Rate
    ours: Rate

    @property
    def ratio(self) -> float:
        return self.ours.per_second / self.baseline.per_second if self.baseline.per_second else 0.0

    def cells(self) -> list[str]:
        pair = (self.baseline, self.ours)
        return [
            self.workload.name,
            *(rate.rate_text() for rate in pair),
            f"{self.ratio:.2f}",
            f"{self.workload.aim:g}",
            *(rate.tail_text() for rate in pair),
            *(rate.cpu_text() for rate in pair),
        ]


def summarize(results: Results, workloads: Sequence[Workload], baseline: System, ours: System) -> list[Line]:
    """One line a workload, in the given order."""
    return [
        Line(workload, _median(results[workload.name][baseline.name]), _median(results[workload.name][ours.name]))
        for workload in workloads
    ]


def _median(rates: Sequence[Rate]) -> Rate:
    cpus = [rate.cpu for rate in rates if rate.cpu is not None]
    return Rate(
        median(rate.per_second for rate in rates),
        _median_or_none([rate.p99 for rate in rates]),
        _median_or_none([rate.p999 for rate in rates]),
        (median(cpu[0] for cpu in cpus), median(cpu[1] for cpu in cpus)) if cpus else None,
    )


def _median_or_none(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return median(present) if present else None


def header(baseline: System, ours: System) -> list[str]:
    """Columns of the table; latencies are p99 / p99.9 in ms, processor times of leader + follower in µs a request."""
    return [
        "workload",
        baseline.name,
        ours.name,
        "ratio",
        "aim",
        f"{baseline.short}, ms",
        f"{ours.short}, ms",
        f"{baseline.short}, µs",
        f"{ours.short}, µs",
    ]


def rest_rows(rests: Mapping[str, Sequence[Rest]], baseline: System, ours: System) -> list[list[str]]:
    """Start-up and idle cost, one row a quantity: its name, etcd, tercet."""
    quantities = (
        ("one member, start until healthy", "start_seconds", "{:.2f} s", 1.0),
        ("one member, processor time to start", "start_cpu_seconds", "{:.2f} s", 1.0),
        ("idle member of three, processor", "idle_cpu", "{:.2f} %", 100.0),
        ("idle member of three, wake-ups", "idle_wakeups", "{:,.0f}/s", 1.0),
    )
    return [
        [
            title,
            *(form.format(median(getattr(rest, name) for rest in rests[system.name]) * factor) for system in (baseline, ours)),
        ]
        for title, name, form, factor in quantities
    ]


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """rows: the header, then the lines; all columns but the first are aligned right."""
    aligned = [rows[0], ["---", *["--:"] * (len(rows[0]) - 1)], *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in aligned)


def as_markdown(lines: Sequence[Line], baseline: System, ours: System) -> str:
    return markdown_table([header(baseline, ours), *(line.cells() for line in lines)])


def as_json(lines: Sequence[Line]) -> list[dict[str, object]]:
    """One object a line; latencies and processor times in seconds."""
    return [
        {
            "workload": line.workload.name,
            "baseline_per_second": round(line.baseline.per_second, 1),
            "per_second": round(line.ours.per_second, 1),
            "ratio": round(line.ratio, 3),
            "aim": line.workload.aim,
            **_tail_json("baseline_", line.baseline),
            **_tail_json("", line.ours),
        }
        for line in lines
    ]


def _tail_json(prefix: str, rate: Rate) -> dict[str, object]:
    return {f"{prefix}p99": rate.p99, f"{prefix}p99.9": rate.p999, f"{prefix}cpu": rate.cpu}


def wide_console() -> Console:
    """As wide as the terminal, or wide enough for these tables where there is none."""
    return Console() if Console().is_terminal else Console(width=170)


def show(lines: Sequence[Line], rests: Sequence[Sequence[str]], baseline: System, ours: System, console: Console) -> None:
    """Print both tables; rows below their aim are yellow."""
    table = _table(header(baseline, ours))
    for line in lines:
        table.add_row(*line.cells(), style=None if line.ratio >= line.workload.aim else "yellow")
    console.print(table)
    if rests:
        table = _table(["at rest", baseline.name, ours.name])
        for row in rests:
            table.add_row(*row)
        console.print(table)


def _table(columns: Sequence[str]) -> Table:
    table = Table(*columns)
    for column in table.columns[1:]:
        column.justify = "right"
    return table
