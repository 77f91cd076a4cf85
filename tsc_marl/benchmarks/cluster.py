"""Cost of a cluster on the machine that learns, with slots that replay recorded jobs after the time that real ones took."""

import pickle
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

SLOTS, ROLLOUT_SLOTS = (1, 8, 32, 128), (1, 8)
"""Numbers of slots: that play whole episodes of an evaluation, and rollouts of a training."""
NETWORK, ALGORITHM, ROUNDS = "grid4x4", "mappo", 3


def measure() -> tuple[dict[int, list[float]], dict[int, list[float]], dict[int, list[float]]]:
    """Return three lists of ratios by the number of slots; each slot plays one job in each round.

    Efficiency of evaluations, then of rollouts: the time of a job over the time that the head waits for all. Then the time of
    learning from all rollouts over the time of one: above 1, slots wait for the learner.
    """
    experiment = parse(["--network", NETWORK, "--algos", ALGORITHM])
    (task,) = experiment.tasks()
    with temporary_folder() as folder, Pool(1) as local:
        run = TrainingRun(experiment.runs[0], local.read_spec(task), TrainingFolder(Path(folder)))
        whole = Job(0, task, run.policy(), 1000, measure_approaches=True)
        part = replace(whole, explore_seed=0, rollout_length=run.learner.rollout_length, measure_approaches=False)
        (episode,), (rollout,) = list(local.run([whole])), list(local.run([part]))
    with _replaying(episode, SLOTS) as pool:
        evaluations = {number: [_efficiency(pool, whole, episode, number)[0] for _ in range(ROUNDS)] for number in SLOTS}
    with _replaying(rollout, ROLLOUT_SLOTS) as pool:
        rollouts, learning = {}, {}
        for number in ROLLOUT_SLOTS:
            pairs = [_efficiency(pool, part, rollout, number) for _ in range(ROUNDS)]
            rollouts[number] = [efficiency for efficiency, _ in pairs]
            learning[number] = [_learning_s(run, results) / _seconds(rollout) for _, results in pairs]
    return evaluations, rollouts, learning


@contextmanager
def _replaying(result: RolloutResult, slots: Sequence[int]) -> Iterator[RayPool]:
    """Yield a pool whose slots have started, which takes seconds, and answer every job with one result."""
    with temporary_folder() as folder:
        path = Path(folder, "answer.pickle")
        path.write_bytes(pickle.dumps(Answer("ok", result, {})))
        kind = (ReplaySlot, (versions(), path, _seconds(result)))
        with on_this_machine(max(slots)) as address:
            pool = RayPool(max(slots), address, kind)
            with pool:
                while len(pool.slots) < max(slots):
                    list(pool.run([replace(result.job, episode=i) for i in range(max(slots))]))
                yield pool


def _seconds(result: RolloutResult) -> float:
    return sum(result.seconds.values())


def _efficiency(pool: RayPool, job: Job, recorded: RolloutResult, number: int) -> tuple[float, list[RolloutResult]]:
    begun = time.perf_counter()
    results = list(pool.run([replace(job, episode=i) for i in range(number)]))
    return _seconds(recorded) / (time.perf_counter() - begun), results


def _learning_s(run: TrainingRun, results: Sequence[RolloutResult]) -> float:
    begun = time.perf_counter()
    run.learner.learn(Batch.join([result.batch for result in results if result.batch is not None]), 0.0)
    return time.perf_counter() - begun
