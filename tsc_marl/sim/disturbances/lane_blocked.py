"""A blocked lane."""

from dataclasses import dataclass

from tsc_marl.bounds import NaturalNumber
from tsc_marl.sim.disturbances.base import Disturbance


@dataclass(frozen=True)
class LaneBlocked(Disturbance):
    """After a third of the window a vehicle breaks down; it blocks its lane for ten minutes."""

    blocked_s: NaturalNumber = 600
