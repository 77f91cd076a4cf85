"""sumo-rl's observation, and those written for it."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tsc_marl import plugins
from tsc_marl.errors import UserError
from tsc_marl.sim.engine import Vehicles
from tsc_marl.sim.episode import EpisodeContext
from tsc_marl.sim.observations.base import Observation
from tsc_marl.sim.signal_timing import SignalTimer
from tsc_marl.sim.sumo_rl_adapter import SumoRlSignals, environment


class SumoRlObservation(Observation):
    """sumo-rl's vector: phase as one-hot, minimum green passed, density and queue of each lane; padded with zeros."""

    low = 0.0
    reads_sumo = True
    function_class: ClassVar[Any] = None
    """An `ObservationFunction`; None for sumo-rl's own."""
    source: ClassVar[str] = "sumo-rl"
    """Its name in messages."""

    def __init__(self, context: EpisodeContext) -> None:
        super().__init__(context)
        self._signals = SumoRlSignals(context, observation=self.function_class)
        self._sizes = [int(np.prod(signal.observation_space.shape)) for signal in self._signals]
        self.size = max(self._sizes)
        self.real = np.stack([np.arange(self.size) < size for size in self._sizes])

    def __call__(self, vehicles: Vehicles, timers: Sequence[SignalTimer], now: float) -> np.ndarray:
        """Return [N, F] float32, in the units of the function."""
        self._signals.show(now)
        with plugins.blamed("observation", self.source):
            rows = [np.asarray(signal.compute_observation(), dtype=np.float32).ravel() for signal in self._signals]
        for row, size, timer in zip(rows, self._sizes, timers, strict=True):
            if len(row) != size:
                raise UserError(
                    f"observation {self.source} has {len(row)} numbers at signal {timer.name}; its observation_space has {size}"
                )
        return np.stack([np.pad(row, (0, self.size - len(row))) for row in rows])


def from_function_class(value: Any, path: str) -> type[Observation]:
    """Return an observation of an `ObservationFunction` class of sumo-rl.

    Raises:
        UserError: for anything else.
    """
    if not (isinstance(value, type) and issubclass(value, environment("observations").ObservationFunction)):
        raise UserError(f"observation {path} is not a sumo_rl ObservationFunction class, nor an Observation of tsc_marl")
    return type(value.__name__, (SumoRlObservation,), {"low": -np.inf, "function_class": value, "source": path})
