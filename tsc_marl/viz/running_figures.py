"""Delay and halting vehicles so far, decision by decision, of an episode that runs."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from tsc_marl.rollout.types import Policy, Task
from tsc_marl.sim import metrics
from tsc_marl.sim.engine import HALTING_MS
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.rewards.delay import DelayReward


@dataclass(frozen=True)
class Figures:
    """Traffic up to a decision."""

    delay_s: float
    """Time lost so far per vehicle scheduled so far, insertion included; 0 in a warm-up."""
    halting: int
    """Vehicles that halt now."""

    def __str__(self) -> str:
        """Return the figures with their units."""
        return f"delay {self.delay_s:.1f} s, {self.halting} halting"


class _CountedDelay(DelayReward):
    """The reward `delay` of the vehicles that metrics count: those due after the warm-up."""

    def __init__(self, env: TrafficEnv) -> None:
        super().__init__(env.episode.context)
        self._env, self._counts = env, dict[str, bool]()

    def weights(self, vehicles: Sequence[str]) -> np.ndarray:
        """Return 1 for a vehicle that counts, else 0, [M]."""
        scenario = self._env.scenario
        if not scenario.warmup_s:
            return super().weights(vehicles)
        counted, api = metrics.Counted(scenario.counted_from_s, self._env.now), self._api.vehicle
        for name in (name for name in vehicles if name not in self._counts):
            self._counts[name] = counted.has(api.getDeparture(name), api.getDepartDelay(name))
        return np.array([self._counts[name] for name in vehicles], dtype=float)


class LostTime:
    """Adds up the time that vehicles lose in an episode; those of a warm-up do not count.

    Args:
        env: with an episode that has just started.

    Attributes:
        total_s: so far, insertion included [veh·s].
    """

    def __init__(self, env: TrafficEnv) -> None:
        self._env, self._reward, self.total_s = env, _CountedDelay(env), 0.0

    def after_step(self) -> float:
        """Add what was lost in the last step and return the total; to be called after each step."""
        self.total_s -= float(self._reward(self._env.vehicles).sum())
        return self.total_s


class RunningFigures:
    """Delay and halting vehicles of an episode. Vehicles due before the first decision after a warm-up have no part in the delay.

    Args:
        env: with an episode that has just started.
    """

    def __init__(self, env: TrafficEnv) -> None:
        self._env, self._lost, self._before = env, LostTime(env), 0

    def after_step(self) -> Figures:
        """Return the figures; to be called after each step."""
        lost_s = self._lost.after_step()
        counts = [self._env.engine.api.simulation.getParameter("", f"stats.vehicles.{kind}") for kind in ("inserted", "waiting")]
        scheduled = sum(map(int, counts))
        if self._env.now <= self._env.scenario.counted_from_s:
            self._before = scheduled
        return Figures(lost_s / max(1, scheduled - self._before), int((self._env.vehicles.speed_ms < HALTING_MS).sum()))


def play(task: Task, policy: Policy, seed: int, advance: Callable[[], None]) -> list[Figures]:
    """Play an episode and return its figures after each decision.

    Args:
        task: network and timing.
        policy: with all its weights.
        seed: SUMO seed.
        advance: called after each decision.
    """
    with closing(policy.task_for(task).env()) as env:
        driver, figures, done = policy.start(env, seed), [], False
        running = RunningFigures(env)
        while not done:
            _, done = env.step(driver.act())
            figures.append(running.after_step())
            advance()
    return figures
