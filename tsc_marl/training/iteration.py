"""One iteration of a training: a few episodes side by side, of one network or several, and the learning from them."""

import time
from collections import Counter

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


def train_iteration(pool: Pool, run: TrainingRun) -> dict[str, float]:
    """Play a few episodes side by side and learn from them, once or after each of their rollouts; return their metrics.

    Networks may have episodes of different lengths: the longer ones go on alone.
    """
    start = time.monotonic()
    progress, learning = run.episode / run.experiment.all_episodes, 0.0
    playing = list(range(run.episode, run.episode + run.experiment.episodes_per_update))
    parts: list[RolloutResult] = []
    metrics: list[dict[str, float]] = []
    policies: list[TrainedPolicy] = []
    while playing:
        policy = run.policy()
        rollout = _play(pool, run, playing, policy, tuple(policies))
        policies.append(policy)
        playing = [part.job.episode for part in rollout if not part.finished]
        parts += rollout
        collected = time.monotonic()
        metrics += _learn(run, rollout, progress)
        learning += time.monotonic() - collected
    iteration = _account(run, parts, time.monotonic() - start, learning) | _of_all(run, mean_metrics(metrics))
    run.metrics.append(iteration)
    return iteration


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


def _play(
    pool: Pool, run: TrainingRun, playing: list[int], policy: TrainedPolicy, earlier: tuple[TrainedPolicy, ...]
) -> list[RolloutResult]:
    """Return the next rollout of each episode that is still playing."""
    networks, length = list(run.tasks), run.learner.rollout_length
    jobs = []
    for n in playing:
        seed = seeds.train_seed(run.config.seed, n)
        task = run.experiment.episode_task(run.tasks[networks[seeds.turn(run.config.seed, n, len(networks))]], seed)
        if n != run.episode:
            task = run.experiment.jam_start.apply(task, seed)
        jobs.append(Job(n, task, policy, seed, explore_seed=seed, rollout_length=length, previous_policies=earlier))
    return sorted(pool.run(jobs), key=lambda result: result.job.episode)


def _account(run: TrainingRun, parts: list[RolloutResult], took_s: float, learning_s: float) -> dict[str, float]:
    """Add the episodes of the iteration to the run's history; return their metrics, those that start from a jam apart."""
    played = sum(part.metrics is not None for part in parts)
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
    seconds |= {"seconds/learning": learning_s / played, "seconds/total": took_s / played}
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
