"""Loops alone."""

from dataclasses import dataclass

from tsc_marl.bounds import Share
from tsc_marl.sim.disturbances.base import Disturbance


@dataclass(frozen=True)
class Loops(Disturbance):
    """The detectors of all signals are loops at the stop line and 40 m before it; vehicles elsewhere are not seen."""

    loops: Share = 1.0
