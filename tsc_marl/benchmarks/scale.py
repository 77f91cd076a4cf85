"""CPU time and memory against the number of signals, on grids with equal traffic at each signal (`networks/grids/recipe.py`)."""

import logging
import math
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.table import Table

from tsc_marl import algos, console
from tsc_marl.config import parse
from tsc_marl.paths import NETWORKS
from tsc_marl.rollout.collect import TransitionBuffer
from tsc_marl.rollout.task import Task, spec_from_env
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.types import Algorithm, Batch

log = logging.getLogger(__name__)

SIDES = (8, 16, 32)
"""Signals along a side of each grid."""
DECISIONS, ROUNDS, SEED = 60, 2, 1
"""Decisions of an episode that are played, and measurements of each grid."""
ALGORITHMS = ("ippo", "jointq")
MIB = 2**20


def measure(sides: tuple[int, ...] = SIDES, decisions: int = DECISIONS, rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Show a table of CPU seconds and memory by signals; return the exponents of their growth, one a round.

    Args:
        sides: signals along a side of each grid, ascending.
        decisions: to play, and to learn from.
        rounds: measurements of each grid.
    """
    rows: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name, f"scale{side * side}") for side in sides]
        for side, folder in zip(sides, folders, strict=True):
            make_grid(folder, side)
        for _ in range(rounds):
            for i, folder in enumerate(folders):
                log.info("%s …", folder.name)
                for what, value in _in_new_process(folder, decisions).items():
                    rows.setdefault(what, [[] for _ in sides])[i].append(value)
    console.show(_table(sides, rows))
    growth = math.log((sides[-1] / sides[0]) ** 2)
    return {
        what: [math.log(last / first) / growth for first, last in zip(values[0], values[-1], strict=True)]
        for what, values in rows.items()
    }


def make_grid(folder: Path, side: int) -> Path:
    """Write the network of a square grid with so many signals along a side; return its folder."""
    subprocess.run([sys.executable, str(NETWORKS / "grids" / "recipe.py"), str(side), str(folder)], check=True)
    return folder


def _table(sides: tuple[int, ...], rows: dict[str, list[list[float]]]) -> Table:
    table = Table(title="CPU time and memory, least .. most of all rounds", title_justify="left")
    table.add_column("signals", no_wrap=True)
    for side in sides:
        table.add_column(f"{side * side:,}", justify="right", no_wrap=True)
    for what, values in rows.items():
        table.add_row(what, *(f"{min(of_side):.3g} .. {max(of_side):.3g}" for of_side in values))
    return table


def _in_new_process(folder: Path, decisions: int) -> dict[str, float]:
    """Measure a grid in a process of its own, which has its own peak of memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(measure_one, str(folder), decisions).result()


def measure_one(network: str, decisions: int) -> dict[str, float]:
    """Return CPU times and the peak of memory of the parts of a training on a network, in this process."""
    torch.set_num_threads(1)
    measured: dict[str, float] = {}
    task = Task(network)
    with _timed(measured, "reading [s]"):
        env = task.env(task.net())
    with _timed(measured, "start of an episode [s]"):
        env.reset(SEED)
    spec = spec_from_env(env)
    made = {}
    for name in ALGORITHMS:
        config = parse(["--network", network, "--algos", name]).runs[0].algo
        with _timed(measured, f"{name}: first weights [s]"):
            made[name] = algos.find(name)(spec, config)
    batches = {name: _play(env, algorithm, decisions, measured, name) for name, algorithm in made.items()}
    env.close()
    measured["memory of playing [MiB]"] = _peak_mib()
    for name, algorithm in made.items():
        with _timed(measured, f"{name}: update on {decisions} decisions [s]"):
            algorithm.update(batches[name], 0.0)
    measured["memory with learning [MiB]"] = _peak_mib()
    return measured


def _play(env: TrafficEnv, algorithm: Algorithm, decisions: int, measured: dict[str, float], name: str) -> Batch:
    """Play decisions from the start of an episode; note CPU time per decision of SUMO, of the environment and of acting."""
    env.reset(SEED)
    spent = {"simulation": 0.0, "acting": 0.0, "all": 0.0}
    advance = env.engine.advance

    def timed_advance(until_s: float) -> None:
        with _timed(spent, "simulation"):
            advance(until_s)

    env.engine.advance = timed_advance
    buffer, carry, generator = TransitionBuffer(), None, torch.Generator().manual_seed(SEED)
    with _timed(spent, "all"):
        for _ in range(decisions):
            with _timed(spent, "acting"), torch.inference_mode():
                obs, avail = torch.from_numpy(env.obs)[None], torch.from_numpy(env.avail)[None]
                action, extras, carry = algorithm.act(obs, avail, carry, generator)
            observed, taken = (env.obs, env.avail, env.state), action[0].numpy()
            buffer.add(observed, taken, env.step(taken)[0], extras)
    measured["a decision: SUMO [ms]"] = 1000 * spent["simulation"] / decisions
    measured["a decision: environment [ms]"] = 1000 * (spent["all"] - spent["simulation"] - spent["acting"]) / decisions
    measured[f"a decision: acting of {name} [ms]"] = 1000 * spent["acting"] / decisions
    return buffer.batch((env.obs, env.avail, env.state))


@contextmanager
def _timed(spent: dict[str, float], what: str) -> Iterator[None]:
    """Add the CPU seconds of a block."""
    start = time.process_time()
    yield
    spent[what] = spent.get(what, 0.0) + time.process_time() - start


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
