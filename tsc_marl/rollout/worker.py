"""Plays episodes, and rollouts of them. A policy is anything that chooses phases: an algorithm or a classical controller."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tsc_marl import algos, controllers
from tsc_marl.errors import UserError
from tsc_marl.rollout.collect import collect_rollout
from tsc_marl.rollout.types import Job, Policy, RolloutResult, Task, without_weights
from tsc_marl.sim import road_network
from tsc_marl.sim import scenario as scenarios
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.types import Algorithm, Spec


def spec_from_env(env: TrafficEnv) -> Spec:
    """Return what an algorithm must know of this environment; needs no running simulation but one reset."""
    rank = {name: i for i, name in enumerate(env.names)}
    near = tuple(tuple(rank[other] for other in signal.neighbours) for signal in env.net.signals)
    n_actions, state_dim = max(env.n_phases), env.state.shape[0]
    return Spec(env.scenario.name, env.names, n_actions, env.obs.shape[1], state_dim, near)


def check_task(task: Task) -> tuple[str, ...]:
    """Read a task's files before anything starts; return what a user should know of its signals, a line each.

    Raises:
        UserError: for files that cannot be used.
    """
    scenarios.scheduled(task.scenario)
    return road_network.read(task.scenario.net, task.sim.detection_m).notes


def read_spec(task: Task) -> Spec:
    """Start and end one simulation to learn the sizes; run it in a worker, libsumo stays in the process."""
    env = task.env()
    env.reset(0)
    env.close()
    return spec_from_env(env)


def hides_detectors(policy: Policy) -> bool:
    """Return whether SUMO's own programs drive, whose detectors are out of our reach."""
    return policy.config is None and controllers.find(policy.name).sumo_controlled


def start_policy(env: TrafficEnv, policy: Policy, seed: int, **options: Any) -> Callable[[], np.ndarray]:
    """Reset the environment and return the function that chooses the phases [N] at each decision, greedily.

    Args:
        env: where no simulation runs.
        policy: what chooses.
        seed: SUMO seed.
        options: of `TrafficEnv.reset`.
    """
    if policy.config is None:
        controller = controllers.find(policy.name)(env)
        env.reset(seed, sumo_controlled=controller.sumo_controlled, programs=controller.programs, **options)
        controller.reset(seed)
        return controller.act
    env.reset(seed, **options)
    algorithm = load_algorithm(policy, spec_from_env(env))
    carry: Any = None

    def act() -> np.ndarray:
        nonlocal carry
        with torch.inference_mode():
            action, _, carry = algorithm.act(torch.from_numpy(env.obs)[None], torch.from_numpy(env.avail)[None], carry, None)
        return action[0].numpy()

    return act


def load_algorithm(policy: Policy, spec: Spec) -> Algorithm:
    """Return a policy's algorithm with its weights; those that it lacks, which only learning needs, stay as initialised."""
    algorithm = algos.find(policy.name)(spec, policy.config)
    _fill(algorithm, policy)
    return algorithm


def _fill(algorithm: Algorithm, policy: Policy) -> None:
    weights, wanted = policy.weights or {}, algorithm.policy_state().keys()
    missing = sorted(wanted - weights.keys())
    try:
        algorithm.load_state_dict({} if missing else weights, strict=False)
    except RuntimeError as error:  # torch's way to say that a shape differs
        missing = [" ".join(str(error).split())]
    if missing:
        raise UserError(f"the weights of this {policy.name} do not fit {algorithm.spec.network} ({missing[0]}); train again")


@dataclass
class PausedEpisode:
    """An episode that stands still after some of its rollouts."""

    played: Job
    """The last rollout, light."""
    carry: Any
    generator: torch.Generator | None

    def precedes(self, job: Job) -> bool:
        """Return whether a job is the next rollout."""
        return without_weights(job) == replace(
            self.played, previous_policies=(*self.played.previous_policies, self.played.policy)
        )


class Worker:
    """Owns one simulation and one policy at a time; plays jobs."""

    def __init__(self) -> None:
        self._env: TrafficEnv | None = None
        self._task: Task | None = None
        self._algorithm: tuple[tuple[str, Any, Spec], Algorithm] | None = None
        self._paused: PausedEpisode | None = None

    def play(self, job: Job) -> RolloutResult:
        """Play one episode, or one rollout of it."""
        if self._env is None or job.task != self._task:
            self._env = job.task.env()
            self._task = job.task
        standing, self._paused = self._paused, None
        if job.policy.config is None:
            return self._play_controller(self._env, job)
        return self._play_algorithm(self._env, job, standing)

    def close(self) -> None:
        """End the simulation, if any."""
        if self._env is not None:
            self._env.close()

    def _play_controller(self, env: TrafficEnv, job: Job) -> RolloutResult:
        begun = time.perf_counter()
        act = start_policy(env, job.policy, job.sumo_seed, out=job.out, detail=job.measure_approaches)
        total, done, acting = np.zeros(len(env.names)), False, 0.0
        while not done:
            before = time.perf_counter()
            action = act()
            acting += time.perf_counter() - before
            reward, done = env.step(action)
            total += reward
        figures = _figures(env, job)
        seconds = {"simulation": time.perf_counter() - begun - acting, "acting": acting}
        return RolloutResult(without_weights(job), figures, total, seconds)

    def _play_algorithm(self, env: TrafficEnv, job: Job, standing: PausedEpisode | None) -> RolloutResult:
        begun = time.perf_counter()
        if standing is None or not standing.precedes(job):
            standing = self._replay_until(env, job)
        length = job.lengths(env.horizon)[-1]
        rollout = collect_rollout(env, self._loaded(job.policy, spec_from_env(env)), standing.carry, standing.generator, length)
        figures = _figures(env, job) if rollout.finished else {}
        if not rollout.finished:
            self._paused = PausedEpisode(without_weights(job), rollout.carry, standing.generator)
        seconds = {"simulation": time.perf_counter() - begun - rollout.acting_s, "acting": rollout.acting_s}
        return RolloutResult(without_weights(job), figures, rollout.reward, seconds, rollout.batch)

    def _replay_until(self, env: TrafficEnv, job: Job) -> PausedEpisode:
        """Start the job's episode and play what comes before the job, just as it was played."""
        env.reset(job.sumo_seed, out=job.out, detail=job.measure_approaches)
        generator = torch.Generator().manual_seed(job.explore_seed) if job.explore_seed is not None else None
        carry: Any = None
        for policy, length in zip(job.previous_policies, job.lengths(env.horizon), strict=False):
            carry = collect_rollout(env, self._loaded(policy, spec_from_env(env)), carry, generator, length).carry
        return PausedEpisode(job, carry, generator)

    def _loaded(self, policy: Policy, spec: Spec) -> Algorithm:
        key = (policy.name, policy.config, spec)
        if self._algorithm is None or self._algorithm[0] != key:
            self._algorithm = (key, load_algorithm(policy, spec))
        else:
            _fill(self._algorithm[1], policy)
        return self._algorithm[1]


def _figures(env: TrafficEnv, job: Job) -> dict[str, float]:
    """End the episode and return its figures; SUMO's files go, unless they were asked for."""
    figures = env.metrics()
    if job.out is None:
        for path in env.out.iterdir():
            path.unlink()
    return figures
