"""`tercet sim`: run seeds of the simulator and print how to replay a failing one.

tercet sim --seeds 0-999            many runs, each with its own faults; exit status 1 if one failed
tercet sim --seed 8274 --trace      one run, event by event
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tercet.sim.simulator import TICKS, Outcome, run_seed

_SEEDS = re.compile(r"(\d+)(?:-(\d+))?")


def _seeds(context: click.Context, parameter: click.Parameter, value: str | None) -> range | None:
    """Parse a range such as `0-999`, or one seed."""
    if value is None:
        return None
    match = _SEEDS.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a range of seeds, such as 0-999")
    first = int(match[1])
    last = int(match[2] or first)
    if last < first:
        raise click.BadParameter(f"{value!r} is a range whose end is before its start")
    return range(first, last + 1)


@click.command("sim")
@click.option("--seeds", callback=_seeds, metavar="FIRST-LAST", help="Run these seeds.")
@click.option("--seed", type=click.IntRange(min=0), help="Run one seed.")
@click.option(
    "--ticks",
    type=click.IntRange(min=1),
    default=TICKS,
    show_default=True,
    help="Ticks of the fault phase, 100 ms each.",
)
@click.option("--members", type=click.IntRange(1, 9), help="Members of the cluster.  [default: drawn from the seed]")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Seeds to run in parallel.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="With --seeds: start no more after this time.")
@click.option("--trace", is_flag=True, help="With --seed: print every event.")
def command(
    seeds: range | None, seed: int | None, ticks: int, members: int | None, jobs: int, seconds: float | None, trace: bool
) -> None:
    """Simulate whole clusters under faults and check safety and linearizability."""
    logging.getLogger("tercet").addHandler(logging.NullHandler())  # the warnings of simulated members are no findings
    if (seeds is None) == (seed is None):
        raise click.UsageError("give either --seeds FIRST-LAST or --seed N")
    if seed is not None:
        if seconds is not None:
            raise click.UsageError("--seconds needs --seeds, not --seed")
        outcome = run_seed(seed, ticks=ticks, members=members, write_trace=click.echo if trace else None)
        _report_one(outcome, ticks, members)
        raise SystemExit(outcome.failure is not None)
    if trace:
        raise click.UsageError("--trace needs --seed, not --seeds")
    assert seeds is not None
    raise SystemExit(_run_many(seeds, ticks, members, jobs, seconds))


def _report_one(outcome: Outcome, ticks: int, members: int | None) -> None:
    click.echo(f"seed {outcome.seed}: {outcome.events} events, {outcome.answered} replies, {outcome.terms} leaders")
    if outcome.failure is not None:
        click.echo(outcome.traceback, nl=False)
        _report_failure(outcome, ticks, members)
    elif outcome.is_undecided:
        click.echo("every invariant held; the history is too large to check for linearizability")
    else:
        click.echo("every invariant held, and the history is linearizable")


def _report_failure(outcome: Outcome, ticks: int, members: int | None) -> None:
    size = "" if members is None else f" --members {members}"
    click.echo(f"seed {outcome.seed} FAILED: {outcome.failure}")
    click.echo(f"replay: tercet sim --seed {outcome.seed} --ticks {ticks}{size} --trace")


def _run_many(seeds: Sequence[int], ticks: int, members: int | None, jobs: int, seconds_max: float | None) -> int:
    """Run all, or as many as fit in the time; returns the exit status."""
    began = time.monotonic()
    done = failed = undecided = answered = 0
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with _outcomes(seeds, ticks, members, jobs) as outcomes, Progress(*columns, console=console) as progress:
        task = progress.add_task("seeds", total=len(seeds))
        for outcome in outcomes:
            done += 1
            answered += outcome.answered
            undecided += outcome.is_undecided
            if outcome.failure is not None:
                failed += 1
                _report_failure(outcome, ticks, members)
            progress.update(task, advance=1, description=f"seeds, {failed} failed" if failed else "seeds")
            if seconds_max is not None and time.monotonic() - began >= seconds_max:
                break
    seconds = time.monotonic() - began
    summary = f"{done} seeds in {seconds:.1f} s: {failed} failed, {answered} replies checked"
    click.echo(f"{summary}, {undecided} histories not decided" if undecided else summary)
    return 1 if failed else 0


@contextmanager
def _outcomes(seeds: Sequence[int], ticks: int, members: int | None, jobs: int) -> Iterator[Iterable[Outcome]]:
    run = partial(run_seed, ticks=ticks, members=members)
    if jobs == 1:
        yield map(run, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield pool.map(run, seeds, chunksize=4)
        pool.shutdown(wait=False, cancel_futures=True)
