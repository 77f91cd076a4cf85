"""The base type of observations."""

import abc
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tsc_marl.sim.engine import Vehicles
from tsc_marl.sim.episode import EpisodeContext
from tsc_marl.sim.signal_timing import SignalTimer


class Observation(abc.ABC):
    """What each signal observes at a decision. One object serves one episode.

    Args:
        context: network, timing and simulation of the episode.
    """

    low: ClassVar[float] = -np.inf
    """Least value of a column."""
    reads_sumo: ClassVar[bool] = False
    """True: it reads SUMO directly, so failing detectors cannot affect it."""

    size: int
    """F, the number of columns."""
    real: np.ndarray
    """[N, F] bool: the columns that are not padding."""

    def __init__(self, context: EpisodeContext) -> None:
        self.context, self.network = context, context.network

    @abc.abstractmethod
    def __call__(self, vehicles: Vehicles, timers: Sequence[SignalTimer], now: float) -> np.ndarray:
        """Return the observations, [N, F] float32.

        Args:
            vehicles: those that the detectors show.
            timers: phase and timers of each signal, [N].
            now: simulated time [s].
        """
