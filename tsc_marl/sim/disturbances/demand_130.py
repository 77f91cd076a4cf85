"""More traffic than expected."""

from dataclasses import dataclass

from tsc_marl.bounds import Scale
from tsc_marl.sim.disturbances.base import Disturbance


@dataclass(frozen=True)
class Demand130(Disturbance):
    """For every ten vehicles come three more; plans do not expect them."""

    demand: Scale = 1.3
