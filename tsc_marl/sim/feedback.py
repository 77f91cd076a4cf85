"""What the agents get back from an episode: observations and rewards, checked."""

import numpy as np

from tsc_marl.errors import UserError
from tsc_marl.plugins import blamed
from tsc_marl.sim import observations, rewards
from tsc_marl.sim.engine import Vehicles
from tsc_marl.sim.signal_view import EpisodeContext, SignalView


class Feedback:
    """Observation and reward of one episode. A user's own class that fails, or returns another shape, is named in one line.

    Args:
        observation: name or import path.
        reward: name or import path.
        context: of the episode.

    Raises:
        UserError: when a class fails, here and later.
    """

    def __init__(self, observation: str, reward: str, context: EpisodeContext) -> None:
        self._names = observation, reward
        kind, of_reward = observations.find(observation), rewards.find(reward)
        with blamed("observation", observation, kind):
            self.observation = kind(context if kind.reads_sumo else context.signals())
        with blamed("reward", reward, of_reward):
            self.reward = of_reward(context)

    def observe(self, view: SignalView) -> np.ndarray:
        """Return the observations, [N, F] float32."""
        name, observation = self._names[0], self.observation
        with blamed("observation", name, type(observation)):
            obs, expected = observation(view), (len(view.timers), observation.size)
        return _checked(f"observation {name}", obs, expected)

    def rewards(self, vehicles: Vehicles) -> np.ndarray:
        """Return the rewards since the last decision, [N]; `vehicles` are all on the road."""
        name = self._names[1]
        with blamed("reward", name, type(self.reward)):
            values = self.reward(vehicles)
        return _checked(f"reward {name}", values, (len(self.reward.network.signals),))


def _checked(source: str, values: np.ndarray, expected: tuple[int, ...]) -> np.ndarray:
    if np.shape(values) != expected:
        raise UserError(f"{source}: expected shape {expected}; got {np.shape(values)}")
    return values
