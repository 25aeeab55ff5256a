"""Runs the mutation bench: each mutant against the simulator's seeds, in parallel, until one catches it.

    python -m tests.mutants.run                     all mutants
    python -m tests.mutants.run vote --seeds 50     those whose name contains "vote"
A mutant runs in a process of its own, on a copy of the sources with the one file changed. The table says which check caught it
and how many seeds that took; the last line is `caught N of N`. The unchanged sources are run first: where they fail, a mutant
that fails proves nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutants import catalogue
from tests.mutants.mutant import SOURCE, Mutant

SEEDS_MAX: Final = 200
SECONDS_MAX: Final = 1800
_PROGRAM: Final = """
import gc, json, sys
gc.disable()
from tercet.sim.simulator import TICKS, run_seed
for seed in range(int(sys.argv[1])):
    outcome = run_seed(seed, ticks=TICKS)
    if seed % 10 == 9:
        gc.collect()
    if outcome.failure is not None:
        print(json.dumps([seed, outcome.failure]))
        break
else:
    print("null")
"""


_UNCHANGED: Final = Mutant("unchanged", "", "", "", "")


@dataclass(frozen=True)
class Result:
    """seeds: how many were run. failure: the first line of what caught the mutant; None: it survived."""

    mutant: Mutant
    seeds: int
    failure: str | None


def run(mutant: Mutant, seeds: int) -> Result:
    """Run one mutant. Raises RuntimeError where its process could not run at all."""
    changed = mutant.apply()
    with tempfile.TemporaryDirectory(prefix="tercet-mutant-") as directory:
        copy = Path(directory) / "tercet"
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / mutant.file).write_text(changed)
        return _run_copy(mutant, seeds, directory)


def run_unchanged(seeds: int) -> None:
    """Raises RuntimeError at the first seed that fails without a mutant."""
    with tempfile.TemporaryDirectory(prefix="tercet-mutant-") as directory:
        shutil.copytree(SOURCE, Path(directory) / "tercet", ignore=shutil.ignore_patterns("__pycache__"))
        result = _run_copy(_UNCHANGED, seeds, directory)
    if result.failure is not None:
        raise RuntimeError(f"seed {result.seeds - 1} fails without a mutant: {result.failure}")


def _run_copy(mutant: Mutant, seeds: int, directory: str) -> Result:
    environment = {**os.environ, "PYTHONPATH": directory, "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-c", _PROGRAM, str(seeds)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{mutant.name}: no end within {SECONDS_MAX} s") from None
    if done.returncode:
        raise RuntimeError(f"{mutant.name}: {done.stderr}")
    found = json.loads(done.stdout)
    if found is None:
        return Result(mutant, seeds, None)
    return Result(mutant, found[0] + 1, found[1].splitlines()[0])


def main() -> int:
    parser = argparse.ArgumentParser(description="Run planted bugs against the simulator.")
    parser.add_argument("only", nargs="*", help="run mutants whose name contains one of these")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="seeds a mutant (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (default: %(default)s)")
    options = parser.parse_args()
    chosen = [one for one in catalogue.BUGS if not options.only or any(text in one.name for text in options.only)]
    for mutant in chosen:
        mutant.apply()  # fail before the first hour is spent, not after
    run_unchanged(options.seeds)
    began = time.monotonic()
    results: list[Result] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for future in as_completed([pool.submit(run, mutant, options.seeds) for mutant in chosen]):
            results.append(future.result())
            print(_line(results[-1]), flush=True)
    return _report(sorted(results, key=lambda one: chosen.index(one.mutant)), time.monotonic() - began)


def _line(result: Result) -> str:
    verdict = f"{result.seeds:4} seeds  {result.failure}" if result.failure else f"SURVIVED {result.seeds} seeds"
    return f"{result.mutant.name:44} {verdict}"[:160]


def _report(results: Sequence[Result], seconds: float) -> int:
    print(f"\n{'mutant':44} seeds  caught by  ({seconds:.0f} s)")
    for result in results:
        print(_line(result))
    caught = sum(result.failure is not None for result in results)
    print(f"caught {caught} of {len(results)}")
    return 0 if caught == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
