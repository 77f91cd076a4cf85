"""Delay and halting vehicles so far, decision by decision, of an episode that runs."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from tsc_marl.rollout.types import Policy, Task
from tsc_marl.sim.engine import HALTING_MS
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.rewards.delay import DelayReward


@dataclass(frozen=True)
class Figures:
    """Traffic up to a decision."""

    delay_s: float
    """Time lost so far per vehicle scheduled so far, insertion included."""
    halting: int
    """Vehicles that halt now."""

    def __str__(self) -> str:
        """Return the figures with their units."""
        return f"delay {self.delay_s:.1f} s, {self.halting} halting"


class LostTime:
    """Adds up the time that all vehicles lose in an episode.

    Args:
        env: with an episode that has just started.

    Attributes:
        total_s: so far, insertion included [veh·s].
    """

    def __init__(self, env: TrafficEnv) -> None:
        self._env, self._reward, self.total_s = env, DelayReward(env.episode.context), 0.0

    def after_step(self) -> float:
        """Add what was lost in the last step and return the total; to be called after each step."""
        self.total_s -= float(self._reward(self._env.vehicles).sum())
        return self.total_s


class RunningFigures:
    """Delay and halting vehicles of an episode.

    Args:
        env: with an episode that has just started.
    """

    def __init__(self, env: TrafficEnv) -> None:
        self._env, self._lost = env, LostTime(env)

    def after_step(self) -> Figures:
        """Return the figures; to be called after each step."""
        lost_s = self._lost.after_step()
        counts = [self._env.engine.api.simulation.getParameter("", f"stats.vehicles.{kind}") for kind in ("inserted", "waiting")]
        scheduled = sum(map(int, counts))
        return Figures(lost_s / max(1, scheduled), int((self._env.vehicles.speed_ms < HALTING_MS).sum()))


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
