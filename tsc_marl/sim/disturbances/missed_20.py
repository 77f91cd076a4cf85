"""Vehicles that no detector sees."""

from dataclasses import dataclass

from tsc_marl.bounds import Share
from tsc_marl.sim.disturbances.base import Disturbance


@dataclass(frozen=True)
class Missed20(Disturbance):
    """Each vehicle is overlooked with probability 20 %, drawn anew at every decision."""

    missed: Share = 0.2
