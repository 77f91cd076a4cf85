"""What the agents get back from an episode: observations and rewards, checked."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import tyro

from tsc_marl.bounds import Positive, check
from tsc_marl.errors import UserError
from tsc_marl.plugins import blamed
from tsc_marl.sim import observations, rewards, road_network
from tsc_marl.sim.engine import Vehicles
from tsc_marl.sim.signal_view import EpisodeContext, SignalView


@dataclass(frozen=True)
class SimConfig:
    """What the agents see and are paid for."""

    observation: Annotated[str, tyro.conf.arg(help=f"{', '.join(observations.available())}, or {observations.PATHS}.")] = (
        "movements"
    )
    """A file of `sim/observations/`, or an import path."""
    reward: Annotated[str, tyro.conf.arg(help=f"{', '.join(rewards.available())}, or {rewards.PATHS}.")] = "delay"
    """A file of `sim/rewards/`, or an import path."""
    detection_m: Positive = road_network.DETECTION_M
    """How far upstream of the stop line vehicles are seen, in metres."""

    def __post_init__(self) -> None:
        """Refuse values out of bounds and names without a file."""
        check(self, "sim.")
        observations.check(self.observation)
        rewards.check(self.reward)

    @property
    def observation_version(self) -> int:
        """Version of the observation in this program."""
        return observations.find(self.observation).version


class Feedback:
    """Observation and reward of one episode. A user's own class that fails, or returns another shape, is named in one line.

    Args:
        config: names of observation and reward.
        context: of the episode.

    Raises:
        UserError: when a class fails, here and later.
    """

    def __init__(self, config: SimConfig, context: EpisodeContext) -> None:
        self._config = config
        observation, reward = observations.find(config.observation), rewards.find(config.reward)
        with blamed("observation", config.observation, observation):
            self.observation = observation(context if observation.reads_sumo else context.signals())
        with blamed("reward", config.reward, reward):
            self.reward = reward(context)

    def observe(self, view: SignalView) -> np.ndarray:
        """Return the observations, [N, F] float32."""
        name, observation = self._config.observation, self.observation
        with blamed("observation", name, type(observation)):
            obs, expected = observation(view), (len(view.timers), observation.size)
        return _checked(f"observation {name}", obs, expected)

    def rewards(self, vehicles: Vehicles) -> np.ndarray:
        """Return the rewards since the last decision, [N]; `vehicles` are all on the road."""
        name = self._config.reward
        with blamed("reward", name, type(self.reward)):
            values = self.reward(vehicles)
        return _checked(f"reward {name}", values, (len(self.reward.network.signals),))


def _checked(source: str, values: np.ndarray, expected: tuple[int, ...]) -> np.ndarray:
    if np.shape(values) != expected:
        raise UserError(f"{source}: expected shape {expected}; got {np.shape(values)}")
    return values
