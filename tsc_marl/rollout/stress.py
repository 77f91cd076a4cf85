"""Domain randomisation: what goes wrong in training episodes, so that a policy learns to cope with it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tsc_marl.bounds import Scale, Share, check
from tsc_marl.errors import UserError
from tsc_marl.rollout.task import Task
from tsc_marl.sim import seeds
from tsc_marl.sim.disturbances import Disturbance
from tsc_marl.sim.signal_timing import Timing

LIMITS = ("blind", "frozen", "missed", "loops", "connected")
"""Settings of `Disturbance` that lie between its default and the limit here."""


@dataclass(frozen=True)
class TrainStress:
    """Detectors, timing and demand of the training episodes, drawn anew from each episode's seed; the defaults change nothing.

    A share is uniform between that of an undisturbed episode and the limit here. Evaluations stay as they are.
    """

    blind: Share = 0.0
    """Largest share of the lanes whose detectors show nothing."""
    frozen: Share = 0.0
    """Largest share of the lanes whose detectors freeze in the first half."""
    missed: Share = 0.0
    """Largest probability that a vehicle is not seen at a decision."""
    loops: Share = 0.0
    """Largest share of the signals with loops at the stop line and 40 m before it alone."""
    connected: Share = 1.0
    """Smallest share of the vehicles that are seen at all."""
    undisturbed: Share = 0.2
    """Share of the episodes whose detectors all work."""
    timing: tuple[str, ...] = ()
    """Signal timings, files of configs/timing/, one of them for each episode; by default that of the training."""
    demand: tuple[Scale, Scale] = (1.0, 1.0)
    """Smallest and largest factor on the demand."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        check(self, "train-stress.")
        if self.demand[0] > self.demand[1]:
            raise UserError(f"train-stress.demand needs the smaller factor first; got {self.demand[0]} {self.demand[1]}")

    def strongest(self) -> Disturbance:
        """Return the detectors at all limits."""
        return Disturbance(**{name: getattr(self, name) for name in LIMITS})

    def apply(self, task: Task, seed: int, timings: Sequence[Timing]) -> Task:
        """Return the task of one episode.

        Args:
            task: of the training.
            seed: SUMO seed of the episode.
            timings: those of `timing`.
        """
        rng, calm = seeds.stream(seed, seeds.TRAIN_STRESS), Disturbance()
        works, which, factor, *drawn = rng.random(3 + len(LIMITS))
        toward = np.zeros(len(LIMITS)) if works < self.undisturbed else np.array(drawn)
        shares = {
            name: getattr(calm, name) + float(part) * (getattr(self, name) - getattr(calm, name))
            for name, part in zip(LIMITS, toward, strict=True)
        }
        low, high = self.demand
        timing = timings[int(which * len(timings))] if timings else task.timing
        return replace(task, timing=timing, disturbance=Disturbance(demand=low + float(factor) * (high - low), **shares))
