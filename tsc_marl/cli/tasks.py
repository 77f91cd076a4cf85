"""The task that a verb plays, and its seed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tsc_marl import console
from tsc_marl.config import read_timing
from tsc_marl.errors import UserError
from tsc_marl.paths import file_name, make_folder
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


def write_intergreen(networks: Sequence[str], timing: str, out: Path) -> None:
    """Write a file of intergreen times for each signal of a network.

    Raises:
        UserError: for another number of networks than one, or files that cannot be used.
    """
    from tsc_marl.sim import road_network, scenario, signal_limits

    if len(networks) != 1:
        raise UserError(f"--intergreen is for one network; got {' '.join(networks) or 'none'}; give --network <name>")
    preset, signals = read_timing(timing), road_network.of(scenario.load(networks[0])).signals
    make_folder(out)
    for signal in signals:
        signal_limits.write_intergreen(out / f"{file_name(signal.name)}.csv", signal.changes(preset).intergreen_s)
    console.say(f"{len(signals)} files of intergreen times in {out}; name one as `intergreen` under `limits`")
