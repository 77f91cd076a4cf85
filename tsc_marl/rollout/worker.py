"""Worker: plays episodes, and rollouts of them, in one simulation."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from tsc_marl.rollout import branches
from tsc_marl.rollout.collect import collect_rollout
from tsc_marl.rollout.policies import Driver, Policy, TrainedDriver, TrainedPolicy
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import EpisodeMetrics, Job, RolloutResult
from tsc_marl.sim import passages, service
from tsc_marl.sim.engine import trajectory_options
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.locks import LockTracker
from tsc_marl.sim.service_tracker import ServiceTracker


@dataclass
class PausedEpisode:
    """An episode whose simulation is paused after some of its rollouts."""

    played: Job
    """The last rollout, without weights."""
    driver: Driver


class Worker:
    """Plays jobs, one after the other, in its own simulation."""

    def __init__(self) -> None:
        self._env: TrafficEnv | None = None
        self._task: Task | None = None
        self._paused: PausedEpisode | None = None

    def play(self, job: Job) -> RolloutResult:
        """Play one episode, or one rollout of it."""
        if self._env is None or job.task != self._task:
            self._env = job.task.env(job.net)
            self._task = job.task
        env, paused, self._paused = self._env, self._paused, None
        begun = time.perf_counter()
        if paused is not None and job.follows(paused.played):
            driver = paused.driver
            _follow(driver, job.policy)
        else:
            driver = _start(env, job)
        if job.branches is not None:
            branched = branches.play(env, driver, job.branches)
            env.close()
            return RolloutResult(job.without_weights(), None, np.zeros(len(env.names)), {}, branched=branched)
        locks = LockTracker(env, job.locks_after_s) if job.locks_after_s else None
        services = ServiceTracker(env, job.movements) if job.movements is not None else None
        watching = [tracker.update for tracker in (locks, services) if tracker]
        rollout = collect_rollout(env, driver, job.lengths(env.horizon)[-1], *watching)
        light = job.without_weights()
        if not rollout.finished:
            self._paused = PausedEpisode(light, driver)
        metrics = _end_episode(env, job) if rollout.finished else None
        if services is not None:
            service.write(service.file_of(env.out, job.sumo_seed), services.services())
        seconds = {"simulation": time.perf_counter() - begun - rollout.acting_s, "acting": rollout.acting_s}
        return RolloutResult(light, metrics, rollout.reward, seconds, rollout.batch, tuple(locks.locks) if locks else ())

    def close(self) -> None:
        """End the simulation, if any."""
        if self._env is not None:
            self._env.close()


def _start(env: TrafficEnv, job: Job) -> Driver:
    """Start the job's episode and play the rollouts before the job, just as they were played."""
    generator = torch.Generator().manual_seed(job.explore_seed) if job.explore_seed is not None else None
    first, *later = (*job.previous_policies, job.policy)
    extra: tuple[str, ...] = ()
    if job.out is not None:
        extra += trajectory_options(job.out, job.sumo_seed) if job.keep_trajectories else ()
        extra += passages.route_options(job.out, job.sumo_seed) if job.movements is not None else ()
    driver = first.start(env, job.sumo_seed, generator, out=job.out, detail=job.measure_approaches, extra_options=extra)
    for policy, length in zip(later, job.lengths(env.horizon), strict=False):
        collect_rollout(env, driver, length)
        _follow(driver, policy)
    return driver


def _follow(driver: Driver, policy: Policy) -> None:
    """Hand the episode to the policy of its next rollout."""
    if not (isinstance(driver, TrainedDriver) and isinstance(policy, TrainedPolicy)):
        raise TypeError(f"an episode in rollouts is for trained policies; got {policy.name}")
    driver.follow(policy)


def _end_episode(env: TrafficEnv, job: Job) -> EpisodeMetrics:
    """End the episode and return its metrics; SUMO's files go, unless the job keeps them."""
    values = env.metrics(job.task.metrics)
    if job.out is None:
        for path in env.out.iterdir():
            path.unlink()
    return EpisodeMetrics(job.sumo_seed, values)
