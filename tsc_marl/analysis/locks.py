"""Locks of a policy's episodes: since when which vehicles stand where, who blocks whom, and whether a phase could end it."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from tsc_marl.console import progress, shortened
from tsc_marl.evaluation.tables import Column, number, terminal_table
from tsc_marl.rollout.policies import Policy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import Job, RolloutResult
from tsc_marl.sim.blockers import StandingVehicle
from tsc_marl.sim.locks import CIRCLE, NO_GAP, QUEUE, STARVED, Lock

ROWS, LEAST_ROWS = 20, 4
"""Vehicles in the tables of all locks together; of each at least."""
WIDEST = 25
"""Characters of a lane's name in a table."""
HEAD = (
    "seed", "lock", "cause", "since_s", "seen_s", "until_s", "vehicle", "in_circle", "stands_since_s", "lane", "junction", "at_m",
    "x_m", "y_m", "blockers", "reason", "signal", "link",
)  # fmt: skip


def play(task: Task, policy: Policy, seeds: Sequence[int], standing_s: float, workers: int) -> list[RolloutResult]:
    """Play an episode with each seed and look for vehicles that stand for `standing_s`; return the results by seed."""
    played = policy.task_for(task)
    jobs = [Job(i, played, policy, seed, locks_after_s=standing_s) for i, seed in enumerate(seeds)]
    results = []
    with Pool(min(workers, len(jobs))) as pool, progress(f"{task.network} {policy.name}", len(jobs)) as bar:
        for done, result in enumerate(pool.run(jobs), 1):
            results.append(result)
            bar.update(done, f"{sum(len(result.locks) for result in results)} locks")
    return sorted(results, key=lambda result: result.job.episode)


def sentence(seed: int, lock: Lock) -> str:
    """Return what holds a lock, with numbers."""
    until = "to the end" if lock.until_s is None else f"to second {lock.until_s:.0f}"
    held = f"{len(lock.vehicles)} vehicles stand in it at second {lock.seen_s:.0f}"
    held += f", {lock.held_at_end} at the end" if lock.until_s is None else ""
    return f"seed {seed}, from second {lock.since_s:.0f} {until}: {_cause(lock)}; {held}"


def _cause(lock: Lock) -> str:
    head, link = lock.vehicles[lock.first[0]], f"link {lock.link} of signal {lock.signal}"
    if lock.cause == CIRCLE:
        where = f", inside junction {' and '.join(lock.junctions)}" if lock.junctions else " on the roads"
        return f"{len(lock.first)} vehicles block each other{where}: no phase ends that"
    shown = ", ".join(f"{phase} for {seconds:.0f} s" for phase, seconds in lock.shown_s.items())
    if lock.cause == STARVED:
        return f"{link} has no green (phases shown: {shown}): the policy"
    if lock.cause == NO_GAP:
        what = f"gives way at {link}, green for {lock.green_s:.0f} s" if lock.shown_s else f"gives way on lane {head.lane}"
        return f"vehicle {head.name} {what}: no gap in other traffic"
    if lock.cause == QUEUE:
        return f"vehicle {head.name} waits for room behind {' and '.join(head.hold.blockers)}, in a queue that moves now and then"
    return f"vehicle {head.name} has a stop of its own on lane {head.lane}"


COLUMNS = (
    Column("vehicle", "vehicle"),
    Column("since", "stands\nsince [s]", number(".0f")),
    Column("lane", "lane"),
    Column("at", "at [m]", number(".0f")),
    Column("held", "held by"),
)


def table(seed: int, lock: Lock, rows: int) -> Table:
    """Return the vehicles of a lock, those first that hold up all others."""
    lines = [
        {
            "vehicle": shortened(vehicle.name, WIDEST), "since": lock.seen_s - vehicle.waiting_s,
            "lane": shortened(vehicle.lane, WIDEST), "at": vehicle.pos_m, "held": shortened(held_by(vehicle), WIDEST),
        }
        for vehicle in ordered(lock)[:rows]
    ]  # fmt: skip
    return terminal_table(f"seed {seed}: {lock.cause} at second {lock.seen_s:.0f}", COLUMNS, lines)


def ordered(lock: Lock) -> list[StandingVehicle]:
    """Return the vehicles: the first ones, each before the one that blocks it, then the others by how long they stand."""
    chain, left = [lock.first[0]], list(lock.first[1:])
    while left:
        blockers = lock.vehicles[chain[-1]].hold.blockers
        chain.append(next((name for name in left if name in blockers), left[0]))
        left.remove(chain[-1])
    others = sorted(lock.vehicles.keys() - set(chain), key=lambda name: (-lock.vehicles[name].waiting_s, name))
    return [lock.vehicles[name] for name in [*chain, *others]]


def held_by(vehicle: StandingVehicle) -> str:
    """Return what holds a vehicle in a few words."""
    hold = vehicle.hold
    return " and ".join(hold.blockers) or (f"{hold.reason}, link {hold.link}" if hold.signal else hold.reason)


def rows_each(number_of_locks: int) -> int:
    """Return how many vehicles of each lock a table shows."""
    return max(LEAST_ROWS, ROWS // max(1, number_of_locks))


def write(path: Path, results: Sequence[RolloutResult]) -> None:
    """Write a row per vehicle of each lock as CSV; seconds count from the start of the window."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEAD)
        for result in results:
            for number_, lock in enumerate(result.locks, 1):
                until_s = "" if lock.until_s is None else f"{lock.until_s:.0f}"
                times = (f"{lock.since_s:.0f}", f"{lock.seen_s:.0f}", until_s)
                for vehicle in ordered(lock):
                    hold, (x, y) = vehicle.hold, np.round(vehicle.body[-1], 1)
                    writer.writerow([
                        result.job.sumo_seed, number_, lock.cause, *times, vehicle.name, int(vehicle.name in lock.first),
                        f"{lock.seen_s - vehicle.waiting_s:.0f}", vehicle.lane, vehicle.junction, f"{vehicle.pos_m:.1f}", x, y,
                        " ".join(hold.blockers), hold.reason, hold.signal, hold.link if hold.signal else "",
                    ])  # fmt: skip
