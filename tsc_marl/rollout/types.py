"""What workers are asked to play, and what comes back."""

from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tsc_marl.sim import scenario as scenarios
from tsc_marl.sim.demand import Demand
from tsc_marl.sim.disturbances import Disturbance
from tsc_marl.sim.env import SimConfig, TrafficEnv
from tsc_marl.sim.scenario import Scenario
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.types import Batch


@dataclass(frozen=True)
class Task:
    """Where an episode plays."""

    network: str
    """A name, a folder with a scenario.yaml, or a `.sumocfg` file; the attribute is the plain name."""
    timing: Timing = field(default_factory=Timing)
    sim: SimConfig = field(default_factory=SimConfig)
    demand: Demand = field(default_factory=Demand)
    disturbance: Disturbance = field(default_factory=Disturbance)
    scenario: Scenario = field(init=False, repr=False)
    """The network's files and window, so that workers need not look for them."""

    def __post_init__(self) -> None:
        """Read the scenario.

        Raises:
            UserError: when there is no such network, or its files are missing.
        """
        loaded = scenarios.load(self.network)
        object.__setattr__(self, "scenario", loaded)
        object.__setattr__(self, "network", loaded.name)

    def env(self) -> TrafficEnv:
        """Return the environment; no simulation runs yet."""
        return TrafficEnv(self.scenario, self.timing, self.sim, self.demand, self.disturbance)


@dataclass(frozen=True)
class Policy:
    """What drives the signals: an algorithm with its settings and weights, or a classical controller (no settings)."""

    name: str
    config: Any = None
    weights: dict[str, Tensor] | None = None
    sim: SimConfig | None = None
    """What it sees and is paid for; None: as the task has it."""

    def task_for(self, task: Task) -> Task:
        """Return the task as this policy sees it."""
        return replace(task, sim=self.sim or task.sim)


@dataclass(frozen=True)
class Job:
    """One episode to play."""

    episode: int
    """Its number: results come back in this order."""
    task: Task
    policy: Policy
    sumo_seed: int
    explore_seed: int | None = None
    """Sample actions with this seed and return the Batch; None acts greedily and returns figures only."""
    out: Path | None = None
    """Keep SUMO's files in this folder."""
    measure_approaches: bool = False
    """Measure approaches, gridlock and emissions too."""
    rollout_length: int = 0
    """Play one of the equal parts, of about so many decisions, into which the episode is cut; 0 plays to the end."""
    previous_policies: tuple[Policy, ...] = ()
    """What drove the episode's rollouts before this one, so that a worker which did not play them can."""

    def lengths(self, horizon: int) -> list[int]:
        """Return the decisions of each rollout of an episode of so many, to the job's own."""
        parts = max(1, round(horizon / self.rollout_length)) if self.rollout_length else 1
        ends = [horizon * i // parts for i in range(len(self.previous_policies) + 2)]
        return [end - begin for begin, end in pairwise(ends)]


@dataclass(frozen=True)
class RolloutResult:
    """What came of a job: an episode, or one rollout of it."""

    job: Job
    metrics: dict[str, float]
    """As in `sim.metrics`; empty as long as the episode goes on."""
    reward: np.ndarray
    """[N] sum over the decisions, in the reward's unit."""
    seconds: dict[str, float]
    """Wall time in `simulation` and `acting`."""
    batch: Batch | None = None


def without_weights(job: Job) -> Job:
    """Drop the weights: they need not travel back."""
    earlier = tuple(replace(policy, weights=None) for policy in job.previous_policies)
    return replace(job, policy=replace(job.policy, weights=None), previous_policies=earlier)
