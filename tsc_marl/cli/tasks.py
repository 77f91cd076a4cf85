"""The task that a verb plays, and its seed."""

from typing import Any

from tsc_marl import console
from tsc_marl.config import read_timing
from tsc_marl.errors import UserError
from tsc_marl.sim.demand import Demand


def check_seed(seed: int) -> None:
    """Refuse what SUMO takes for no seed."""
    if not 0 <= seed < 2**31:
        raise UserError(f"seed must lie in 0 .. {2**31 - 1}; got {seed}")


def open_task(network: str, timing: str, demand: Demand | None = None, metrics: tuple[str, ...] = ()) -> Any:
    """Return the `Task` of a network with a timing, and say what a user should know of its signals.

    Raises:
        UserError: for files that cannot be used.
    """
    from tsc_marl.rollout.task import Task, check_task

    task = Task(network, read_timing(timing), demand=demand or Demand(), metrics=metrics)
    for note in check_task(task):
        console.say(f"{task.network}: {note}")
    return task
