"""Messages between the process that learns and the workers that simulate."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tsc_marl.rollout.branches import BranchedState, BranchPlan
from tsc_marl.rollout.policies import Policy
from tsc_marl.rollout.task import Task
from tsc_marl.sim.locks import Lock
from tsc_marl.sim.movements import NetworkMovements
from tsc_marl.sim.road_network import RoadNetwork
from tsc_marl.types import Batch


@dataclass(frozen=True)
class EpisodeMetrics:
    """Metrics of one episode."""

    seed: int
    """SUMO seed."""
    values: Mapping[str, float]
    """Numbers by the labels of the metrics (`sim.metrics`)."""

    def __getitem__(self, metric: str) -> float:
        """Return the number of a metric."""
        return self.values[metric]

    def as_row(self) -> dict[str, float | int]:
        """Return the row of a results file: `seed`, then the metrics."""
        return {"seed": self.seed, **self.values}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "EpisodeMetrics":
        """Return the metrics in a row of a results file."""
        values = dict(row)
        return cls(int(values.pop("seed")), values)


@dataclass(frozen=True)
class Job:
    """One episode to play, or one rollout of it."""

    episode: int
    """Number of the job, which orders the results."""
    task: Task
    policy: Policy
    sumo_seed: int
    explore_seed: int | None = None
    """Seed of the sampled actions, with a Batch in the result; None acts greedily and returns metrics only."""
    out: Path | None = None
    """Folder for SUMO's files; None keeps none."""
    measure_approaches: bool = False
    """Whether approaches, gridlock and emissions are measured too."""
    keep_trajectories: bool = False
    """Whether those of all vehicles are among SUMO's files; needs `out`."""
    movements: NetworkMovements | None = None
    """Those whose service is written beside SUMO's files (`sim.service`); needs `out` and `measure_approaches`."""
    locks_after_s: float = 0.0
    """Watch an episode that is played as a whole for vehicles that stand so long (`sim.locks`); 0 does not."""
    branches: BranchPlan | None = None
    """Play the episode to one state and its branches, and no further."""
    rollout_length: int = 0
    """Approximate number of decisions of a rollout: the episode is cut into equal parts. 0 plays to the end."""
    previous_policies: tuple[Policy, ...] = ()
    """Policies of the episode's earlier rollouts: a worker that did not play these rollouts replays them."""
    net: RoadNetwork | None = None
    """The task's network, for a process that has not read it."""

    def lengths(self, horizon: int) -> list[int]:
        """Return the decisions of each rollout, to the job's own, in an episode of `horizon` decisions."""
        parts = max(1, round(horizon / self.rollout_length)) if self.rollout_length else 1
        ends = [horizon * i // parts for i in range(len(self.previous_policies) + 2)]
        return [end - begin for begin, end in pairwise(ends)]

    def without_weights(self) -> "Job":
        """Return the job without weights of nets and without its road network: they need not travel back."""
        return replace(self.without_previous_weights(), policy=self.policy.without_weights(), net=None)

    def without_previous_weights(self) -> "Job":
        """Return the job for a worker in which the earlier rollouts were played."""
        return replace(self, previous_policies=tuple(policy.without_weights() for policy in self.previous_policies))

    def follows(self, played: "Job | None") -> bool:
        """Return whether this job is the next rollout of the episode that a job has played (its weights left out)."""
        if played is None:
            return False
        return self.without_weights() == replace(played, previous_policies=(*played.previous_policies, played.policy))


@dataclass(frozen=True)
class RolloutResult:
    """Outcome of a job: of an episode, or of one rollout of it."""

    job: Job
    """The job, without weights."""
    metrics: EpisodeMetrics | None
    """Metrics of the episode; None until it has ended."""
    reward: np.ndarray
    """[N] sum of each agent's rewards, in the reward's unit."""
    seconds: dict[str, float]
    """Wall time [s] of `simulation` and `acting`."""
    batch: Batch | None = None
    locks: tuple[Lock, ...] = ()
    branched: BranchedState | None = None
    """The state of a job with `branches`."""

    @property
    def starts_jammed(self) -> bool:
        """Whether the episode started from a jam."""
        return bool(self.job.task.disturbance.jam_s)

    @property
    def finished(self) -> bool:
        """Whether the episode has ended."""
        return self.metrics is not None
