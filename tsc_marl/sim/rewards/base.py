"""The base type of rewards."""

import abc

import numpy as np

from tsc_marl.sim.engine import Vehicles
from tsc_marl.sim.signal_view import EpisodeContext


class Reward(abc.ABC):
    """One number per signal and decision; larger is better. One object serves one episode.

    Args:
        context: network, timing and simulation of the episode.
    """

    def __init__(self, context: EpisodeContext) -> None:
        self.context, self.network = context, context.network

    @abc.abstractmethod
    def __call__(self, vehicles: Vehicles) -> np.ndarray:
        """Return the rewards since the last decision, [N] float.

        Args:
            vehicles: all vehicles on the road.
        """
