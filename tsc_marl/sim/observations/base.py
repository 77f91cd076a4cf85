"""The base type of observations."""

import abc
from typing import ClassVar

import numpy as np

from tsc_marl.sim.signal_view import SignalContext, SignalView


class Observation(abc.ABC):
    """What each signal observes at a decision. One object serves one episode.

    Args:
        context: network, timing and detection distance; an `EpisodeContext` where the class declares `reads_sumo`.
    """

    low: ClassVar[float] = -np.inf
    """Least value of a column."""
    reads_sumo: ClassVar[bool] = False
    """True: it reads SUMO directly, so failing detectors cannot affect it."""
    portable: ClassVar[bool] = False
    """True: a column means the same on every network, so that a policy plays on any (`Structure` of `movements`)."""
    version: ClassVar[int] = 1
    """Of the columns and their scales, on which a policy relies; raise it with every change of them."""

    size: int
    """F, the number of columns."""
    real: np.ndarray
    """[N, F] bool: the columns that are not padding."""

    def __init__(self, context: SignalContext) -> None:
        self.context, self.network = context, context.network

    @abc.abstractmethod
    def __call__(self, view: SignalView) -> np.ndarray:
        """Return the observations of a decision, [N, F] float32."""
