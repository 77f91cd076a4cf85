"""Rewards that sumo-rl's TrafficSignals compute."""

from typing import Any, ClassVar

import numpy as np

from tsc_marl import plugins
from tsc_marl.errors import UserError
from tsc_marl.sim.engine import Vehicles
from tsc_marl.sim.episode import EpisodeContext
from tsc_marl.sim.rewards.base import Reward
from tsc_marl.sim.sumo_rl_adapter import SumoRlSignals


class SumoRlReward(Reward):
    """A reward function of a `TrafficSignal`."""

    function: ClassVar[Any]
    """A name of sumo-rl, or a function of a `TrafficSignal`."""
    source: ClassVar[str] = ""
    """Its name in messages."""

    def __init__(self, context: EpisodeContext) -> None:
        super().__init__(context)
        self._signals = SumoRlSignals(context, reward=self.function)

    def __call__(self, vehicles: Vehicles) -> np.ndarray:
        """Return [N], in the unit of the function."""
        self._signals.show(self.context.simulation.simulation.getTime())
        with plugins.blamed("reward", self.source or str(self.function)):
            return np.array([signal.compute_reward() for signal in self._signals], dtype=float)


def from_function(function: Any, path: str) -> type[Reward]:
    """Return a reward of a function of a `TrafficSignal`.

    Raises:
        UserError: for an object that cannot be called.
    """
    if not callable(function):
        raise UserError(f"reward {path} is not callable; expected a Reward, or a function of a sumo_rl TrafficSignal")
    return type("FunctionReward", (SumoRlReward,), {"function": staticmethod(function), "source": path})
