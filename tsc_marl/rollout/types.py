"""Messages between the process that learns and the workers that simulate."""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from tsc_marl.rollout.policies import Policy
from tsc_marl.rollout.task import Task
from tsc_marl.types import Batch

EpisodeMetrics = dict[str, float]
"""Metrics of an episode by name, as `sim.metrics` defines them."""


@dataclass(frozen=True)
class Job:
    """One episode to play, or one rollout of it."""

    episode: int
    """Its number: results come back in this order."""
    task: Task
    policy: Policy
    sumo_seed: int
    explore_seed: int | None = None
    """Sample actions with this seed and return the Batch; None acts greedily and returns metrics only."""
    out: Path | None = None
    """Keep SUMO's files in this folder."""
    measure_approaches: bool = False
    """Measure approaches, gridlock and emissions too."""
    rollout_length: int = 0
    """Cut the episode into equal parts of about so many decisions and play one of them; 0 plays to the end."""
    previous_policies: tuple[Policy, ...] = ()
    """Policies of the episode's earlier rollouts: a worker that did not play these rollouts replays them."""

    def lengths(self, horizon: int) -> list[int]:
        """Return the decisions of each rollout, to the job's own, in an episode of `horizon` decisions."""
        parts = max(1, round(horizon / self.rollout_length)) if self.rollout_length else 1
        ends = [horizon * i // parts for i in range(len(self.previous_policies) + 2)]
        return [end - begin for begin, end in pairwise(ends)]

    def without_weights(self) -> "Job":
        """Return the job without weights of networks: they need not travel back."""
        return replace(self.without_previous_weights(), policy=self.policy.without_weights())

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
    """Without weights."""
    finished: bool
    """Whether the episode has ended."""
    metrics: EpisodeMetrics
    """Of the episode; empty until it has ended."""
    reward: np.ndarray
    """[N] sum over the decisions, in the reward's unit."""
    seconds: dict[str, float]
    """Wall time in `simulation` and `acting`."""
    batch: Batch | None = None
