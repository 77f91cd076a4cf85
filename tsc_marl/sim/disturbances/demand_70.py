"""Less traffic than expected."""

from dataclasses import dataclass

from tsc_marl.bounds import Scale
from tsc_marl.sim.disturbances.base import Disturbance


@dataclass(frozen=True)
class Demand70(Disturbance):
    """30 % of the vehicles stay at home; plans expect all of them."""

    demand: Scale = 0.7
