"""Detectors that stand still."""

from dataclasses import dataclass

from tsc_marl.bounds import Share
from tsc_marl.sim.disturbances.base import Disturbance


@dataclass(frozen=True)
class Frozen20(Disturbance):
    """The detectors of 20 % of the lanes freeze in the first half: they show the same vehicles from then on."""

    frozen: Share = 0.2
