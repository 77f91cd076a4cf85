"""Detectors that show nothing."""

from dataclasses import dataclass

from tsc_marl.bounds import Share
from tsc_marl.sim.disturbances.base import Disturbance


@dataclass(frozen=True)
class Blind20(Disturbance):
    """The detectors of 20 % of the lanes show no vehicle during the whole episode."""

    blind: Share = 0.2
