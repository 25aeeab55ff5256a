"""`@sim_test`: one test, many seeds.

    @sim_test(seeds=200)
    async def test_no_lost_update(world: World) -> None: ...

is a function that any test runner calls. When a seed fails, the error names it, and TERCET_SIM_SEED=17 in the environment runs
only that one.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from tercet.errors import TercetError
from tercet.simulation.world import World

Scenario = Callable[[World], Awaitable[Any]]

_TRACE_LINES = 40


class SeedFailed(AssertionError):
    """A seed at which a scenario failed; its cause is the scenario's own error."""

    def __init__(self, seed: int, error: BaseException, world: World) -> None:
        lines = [f"{seconds:10.4f} s  {text}" for seconds, text in world.trace[-_TRACE_LINES:]]
        super().__init__(
            "\n".join(
                [
                    f"seed {seed} fails after {world.now:.3f} virtual seconds: {type(error).__name__}: {error}",
                    *lines,
                    f"run it alone with TERCET_SIM_SEED={seed}",
                ]
            )
        )
        self.seed = seed


class NotDeterministic(TercetError):
    """Two runs of a seed differ: something in the scenario depends on the machine."""


def run_seed(scenario: Scenario, seed: int, **options: Any) -> World:
    """Run one seed. Raises SeedFailed."""
    world = World(seed, **options)
    try:
        world.run(scenario)
    except Exception as error:
        raise SeedFailed(seed, error, world) from error
    return world


def check_determinism(scenario: Scenario, seed: int, **options: Any) -> None:
    """Run a seed twice. Raises NotDeterministic if the runs differ in what the network delivered."""
    first, second = run_seed(scenario, seed, **options), run_seed(scenario, seed, **options)
    if first.digest != second.digest:
        raise NotDeterministic(
            f"two runs of seed {seed} differ: {first.network.messages} and {second.network.messages} messages were delivered; "
            "look for clocks, chance and sets of strings (PYTHONHASHSEED) in the code under test"
        )


def sim_test(seeds: int | Iterable[int] = 100, **options: Any) -> Callable[[Scenario], Callable[[], None]]:
    """Run the decorated scenario with each seed. options: of World. TERCET_SIM_SEED in the environment replaces the seeds."""
    if callable(seeds):
        raise TypeError("write @sim_test() with parentheses")

    def decorate(scenario: Scenario) -> Callable[[], None]:
        def test() -> None:
            only = os.environ.get("TERCET_SIM_SEED")
            chosen = [int(only)] if only else range(seeds) if isinstance(seeds, int) else seeds
            for seed in chosen:
                run_seed(scenario, seed, **options)

        functools.update_wrapper(test, scenario)
        del test.__wrapped__  # type: ignore[attr-defined]  # pytest would ask for the scenario's arguments as fixtures
        return test

    return decorate
