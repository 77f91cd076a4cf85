"""One iteration of a training: two groups of episodes, of one network or several, and the learning from each."""

import concurrent.futures
import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from tsc_marl.rollout.policies import TrainedPolicy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.types import Job, RolloutResult
from tsc_marl.sim import seeds
from tsc_marl.training.learner import learn
from tsc_marl.training.run import TrainingRun
from tsc_marl.types import Batch, mean_metrics

OF_NETWORK = "delay/"
"""Before the name of a network: the metric with its training delay [s], where a training has several networks."""
LEARNER = ThreadPoolExecutor(1, "learner", torch.set_num_threads, (1,))
"""Thread that learns while this one waits for the workers."""


class Group:
    """Episodes that are played side by side, rollout by rollout.

    Attributes:
        episodes: their numbers.
        playing: numbers of those that have not ended.
        policies: of the rollouts so far.
        rollout: the newest part of each episode.
        parts: all parts.
        metrics: of the updates.
        learning_s: wall time of the updates [s].
    """

    def __init__(self, episodes: range) -> None:
        self.episodes, self.playing = episodes, list(episodes)
        self.policies: list[TrainedPolicy] = []
        self.rollout: list[RolloutResult] = []
        self.parts: list[RolloutResult] = []
        self.metrics: list[dict[str, float]] = []
        self.learning_s = 0.0

    def jobs(self, run: TrainingRun) -> list[Job]:
        """Return the next rollout of each episode that is still playing, with the present policy."""
        networks, length, policy = list(run.tasks), run.learner.rollout_length, run.policy()
        jobs = []
        for n in self.playing:
            seed = seeds.train_seed(run.config.seed, n)
            task = run.experiment.episode_task(run.tasks[networks[seeds.turn(run.config.seed, n, len(networks))]], seed)
            if n != self.episodes.start:
                task = run.experiment.jam_start.apply(task, seed)
            earlier = tuple(self.policies)
            jobs.append(Job(n, task, policy, seed, explore_seed=seed, rollout_length=length, previous_policies=earlier))
        self.policies.append(policy)
        return jobs

    def play(self, pool: Pool, jobs: list[Job]) -> None:
        """Play the rollouts."""
        self.rollout = sorted(pool.run(jobs), key=lambda part: part.job.episode)
        self.parts += self.rollout
        self.playing = [part.job.episode for part in self.rollout if not part.finished]

    def learn(self, run: TrainingRun) -> None:
        """Learn from the newest rollout."""
        begun = time.monotonic()
        self.metrics += _learn(run, self.rollout, self.episodes.start / run.experiment.all_episodes)
        self.learning_s += time.monotonic() - begun


def train_iteration(pool: Pool, run: TrainingRun) -> list[dict[str, float]]:
    """Play two groups of episodes in turns, rollout by rollout; learn from the rollout of one while the other plays.

    So each rollout is played by the policy before the newest update. The last episodes of a training may be one group, and the
    networks of one group may have longer episodes: a group that plays alone waits for the update from its own rollout.

    Returns the metrics of each group.
    """
    start = time.monotonic()
    size, end = run.experiment.episodes_per_update, run.experiment.all_episodes
    first = range(run.episode, min(run.episode + run.experiment.episodes_per_iteration, end), size)
    groups = [Group(range(n, n + size)) for n in first]
    waiting: Group | None = None
    while playing := [group for group in groups if group.playing]:
        for group in playing:
            if waiting is group:
                group.learn(run)
                waiting = None
            jobs = group.jobs(run)
            with _learning_beside(run, waiting):
                group.play(pool, jobs)
            waiting = group
    if waiting is not None:
        waiting.learn(run)
    took_s = (time.monotonic() - start) / len(groups)
    rows = [_account(run, group, took_s) | _of_all(run, mean_metrics(group.metrics)) for group in groups]
    for row in rows:
        run.metrics.append(row)
    return rows


@contextlib.contextmanager
def _learning_beside(run: TrainingRun, group: Group | None) -> Iterator[None]:
    """Learn from a group's newest rollout, if any, beside the block; both have ended after it."""
    if group is None:
        yield
        return
    learning = LEARNER.submit(group.learn, run)
    try:
        yield
    finally:
        concurrent.futures.wait([learning])
    learning.result()


def _learn(run: TrainingRun, rollout: list[RolloutResult], progress: float) -> list[dict[str, float]]:
    """Learn from the batches of the networks, and refuse to go on with weights that are not finite."""
    batches: dict[str, list[Batch]] = {}
    for part in rollout:
        if part.batch is not None:
            batches.setdefault(part.job.task.network, []).append(part.batch)
    joined = {network: Batch.join(episodes) for network, episodes in batches.items()}
    try:
        metrics = learn(run.learners, joined, progress)
    except (ValueError, RuntimeError):  # torch refuses to sample from a policy that is not finite
        run.check_finite(joined)
        raise
    run.check_finite(joined)
    return metrics


def _account(run: TrainingRun, group: Group, took_s: float) -> dict[str, float]:
    """Add the episodes of a group to the run's history; return their metrics, those that start from a jam apart."""
    parts, played = group.parts, len(group.episodes)
    jammed = [part.metrics["delay"] for part in parts if part.metrics is not None and part.starts_jammed]
    calm = [part for part in parts if not part.starts_jammed]
    ended = [(part.job.task.network, part.metrics) for part in calm if part.metrics is not None]
    run.episode += played
    before = run.history[-1] if run.history else {"steps": 0.0, "minutes": 0.0}
    traffic = {f"traffic/{key}": float(np.mean([metrics[key] for _, metrics in ended])) for key in ended[0][1].values}
    networks = Counter(network for network, _ in ended)
    reward = {
        name: np.sum([part.reward for part in calm if part.job.task.network == name], axis=0) / episodes
        for name, episodes in networks.items()
    }
    delays = {name: float(np.mean([metrics["delay"] for of, metrics in ended if of == name])) for name in networks}
    steps = sum(len(part.batch.reward) for part in parts if part.batch is not None)
    run.history.append({
        "episode": float(run.episode), "delay": traffic["traffic/delay"],
        "reward": float(np.mean([of_agents.sum() for of_agents in reward.values()])),
        "steps": before["steps"] + steps, "minutes": before["minutes"] + took_s / 60,
    })  # fmt: skip
    if len(run.tasks) > 1:
        run.history[-1] |= {f"{OF_NETWORK}{name}": delay for name, delay in delays.items()}
        run.history[-1]["delay"] = float(np.nanmean(list(newest_delays(run).values())))
    seconds = {f"seconds/{key}": sum(part.seconds[key] for part in parts) / played for key in parts[0].seconds}
    seconds |= {"seconds/learning": group.learning_s / played, "seconds/total": took_s / played}
    from_jams = {"jam_start/episodes": float(len(jammed)), "jam_start/delay": float(np.mean(jammed))} if jammed else {}
    per_agent = {}
    if len(run.tasks) == 1:
        per_agent = run.learner.algorithm.spec.per_agent({"reward": torch.from_numpy(*reward.values())})
    return run.history[-1] | traffic | seconds | from_jams | per_agent


def newest_delays(run: TrainingRun) -> dict[str, float]:
    """Return the newest training delay [s] of each network that has one, in the order of the command."""
    if len(run.tasks) == 1:
        return {name: row["delay"] for name in run.tasks for row in run.history[-1:]}
    newest = {key: value for row in run.history for key, value in row.items()}
    return {name: newest[f"{OF_NETWORK}{name}"] for name in run.tasks if f"{OF_NETWORK}{name}" in newest}


def _of_all(run: TrainingRun, metrics: dict[str, float]) -> dict[str, float]:
    """Return the metrics of learning; those of single signals only where a training has one network."""
    if len(run.tasks) == 1:
        return metrics
    return {name: value for name, value in metrics.items() if not name.startswith("agent/")}
