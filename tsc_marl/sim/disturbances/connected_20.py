"""Connected vehicles alone."""

from dataclasses import dataclass

from tsc_marl.bounds import Share
from tsc_marl.sim.disturbances.base import Disturbance


@dataclass(frozen=True)
class Connected20(Disturbance):
    """20 % of the vehicles report where they are; no other vehicle is seen."""

    connected: Share = 0.2
