"""A signal that no longer obeys."""

from dataclasses import dataclass

from tsc_marl.bounds import NaturalNumber
from tsc_marl.sim.disturbances.base import Disturbance


@dataclass(frozen=True)
class SignalStuck(Disturbance):
    """One signal runs its fixed program; it ignores the policy."""

    stuck: NaturalNumber = 1
