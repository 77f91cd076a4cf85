"""Cost of a cluster on the machine that learns, with slots that replay recorded rollouts after the time that real ones took."""

import pickle
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tsc_marl.benchmarks.replay_slot import ReplaySlot
from tsc_marl.config import parse
from tsc_marl.paths import temporary_folder
from tsc_marl.rollout.cluster.connection import on_this_machine
from tsc_marl.rollout.cluster.pool import RayPool
from tsc_marl.rollout.cluster.slot import Answer, versions
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.types import Job, RolloutResult
from tsc_marl.tracking.run_folder import TrainingFolder
from tsc_marl.training.run import TrainingRun
from tsc_marl.types import Batch

SLOTS = (1, 8, 32, 128)
NETWORK, ALGORITHM = "grid4x4", "mappo"
ROLLOUTS, UPDATES = 6, 3
"""Of each number of slots: rollouts that are played, and updates that learn from the first of them."""


def measure(slots: Sequence[int] = SLOTS) -> dict[int, tuple[list[float], list[float]]]:
    """Return for each number of slots, each of which plays one episode in rollouts, two lists with an entry for each rollout or update.

    The first has the efficiency: the time of the slowest slot over the time that the head had to wait for all results. The
    second has the time of learning from all of them over the time of the slowest slot: above 1, the slots wait for the learner.
    """
    experiment = parse(["--network", NETWORK, "--algos", ALGORITHM])
    (task,) = experiment.tasks()
    ratios = {}
    with temporary_folder() as folder, Pool(1) as local:
        run = TrainingRun(experiment.runs[0], local.read_spec(task), TrainingFolder(Path(folder)))
        job = Job(0, task, run.policy(), 1_000_000, explore_seed=0, rollout_length=run.learner.rollout_length)
        recorded = _recorded(local, job)
        answers = [(pickle.dumps(Answer("ok", part, {})), _seconds(part)) for part in recorded]
        kind = (ReplaySlot, (versions(), answers))
        with on_this_machine(max(slots)) as address, RayPool(max(slots), address, kind) as pool:
            for number in slots:
                ratios[number] = _ratios(pool, run, [replace(job, episode=i) for i in range(number)], recorded[:ROLLOUTS])
    return ratios


def _recorded(pool: Pool, job: Job) -> list[RolloutResult]:
    """Play an episode in its rollouts, all with one policy."""
    parts: list[RolloutResult] = []
    while not (parts and parts[-1].finished):
        parts += pool.run([replace(job, previous_policies=(job.policy,) * len(parts))])
    return parts


def _seconds(part: RolloutResult) -> float:
    return sum(part.seconds.values())


def _ratios(pool: Pool, run: TrainingRun, jobs: list[Job], recorded: list[RolloutResult]) -> tuple[list[float], list[float]]:
    list(pool.run(jobs))  # starts the slots, which takes seconds
    efficiency, learning = [], []
    earlier = ()
    for part in recorded:
        policy, begun = run.policy(), time.perf_counter()
        results = list(pool.run([replace(job, policy=policy, previous_policies=earlier) for job in jobs]))
        efficiency.append(_seconds(part) / (time.perf_counter() - begun))
        earlier = (*earlier, policy)
        if len(learning) == UPDATES:
            continue
        begun = time.perf_counter()
        run.learner.learn(Batch.join([result.batch for result in results if result.batch is not None]), 0.0)
        learning.append((time.perf_counter() - begun) / _seconds(part))
    return efficiency, learning
