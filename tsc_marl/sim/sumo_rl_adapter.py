"""sumo-rl's observations and rewards, and anyone's written for it, over our simulation.

Real `sumo_rl` TrafficSignal objects do the counting; they are shown our signals' states and cannot write lights.
"""

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from tsc_marl.errors import UserError, unknown
from tsc_marl.sim.signal_timing import SignalTimer, Timing

REWARDS = ("diff-waiting-time", "average-speed", "queue", "pressure")


def imported(path: str) -> Any:
    """Return the object at an import path `package.module:name`.

    Raises:
        UserError: when there is none.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{path} cannot be imported ({error}); expected package.module:name") from None


class SumoRlView:
    """One TrafficSignal per signal.

    Args:
        names: the signals.
        timing: for sumo-rl's own "minimum green has passed" bit.
        api: libsumo or a TraCI connection, running.
        observation: import path of an ObservationFunction class; None for sumo-rl's own.
        reward: one of `REWARDS`, or the import path of a function of a TrafficSignal.

    Raises:
        UserError: when an import path leads nowhere, or to something of another kind.
    """

    def __init__(self, names: Sequence[str], timing: Timing, api: Any, observation: str | None, reward: str) -> None:
        importlib.import_module("tsc_marl.sim._libsumo")  # libsumo sets SUMO_HOME, without which sumo_rl refuses to be imported
        from sumo_rl.environment.observations import DefaultObservationFunction, ObservationFunction
        from sumo_rl.environment.traffic_signal import TrafficSignal

        observe = imported(observation) if observation else DefaultObservationFunction
        if not (inspect.isclass(observe) and issubclass(observe, ObservationFunction)):
            raise UserError(f"observation {observation} is not a sumo_rl ObservationFunction class")
        self._env = SimpleNamespace(fixed_ts=False, observation_class=observe, vehicles={}, sim_step=0.0, sumo=api)
        self._sources = {"observation": observation or "sumo-rl", "reward": reward}
        reward_fn = reward if reward in REWARDS else _reward_function(reward)
        self._signals = [
            TrafficSignal(
                self._env, name, timing.decision_s, timing.yellow_s + timing.all_red_s, timing.min_green_s,
                timing.max_red_s or 0, 0, reward_fn, _read_only(api),
            )
            for name in names
        ]  # fmt: skip
        self.size = max(int(np.prod(signal.observation_space.shape)) for signal in self._signals)

    def show(self, timers: Sequence[SignalTimer], now: float) -> None:
        """Tell the TrafficSignals what our state machines did."""
        self._env.sim_step = now
        for signal, timer in zip(self._signals, timers, strict=True):
            signal.green_phase = timer.phase
            signal.time_since_last_phase_change = int(timer.since_change_s(now))
            signal.is_yellow = signal.time_since_last_phase_change < signal.yellow_time
            signal.next_action_time = now

    def observe(self) -> list[np.ndarray]:
        """Return each signal's own vector, of its own length."""
        with self._blamed("observation"):
            return [np.asarray(signal.compute_observation(), dtype=np.float32).ravel() for signal in self._signals]

    def reward(self) -> np.ndarray:
        """Return [N], in the unit of the function."""
        with self._blamed("reward"):
            return np.array([signal.compute_reward() for signal in self._signals], dtype=float)

    @contextlib.contextmanager
    def _blamed(self, kind: str) -> Iterator[None]:
        """Say whose function it was that failed."""
        try:
            yield
        except Exception as error:  # anything may come out of a user's own function
            raise UserError(f"{kind} {self._sources[kind]} failed with {type(error).__name__}: {error}") from error


def _reward_function(path: str) -> Callable[[Any], Any]:
    if ":" not in path:
        raise unknown("reward", path, ("delay", *REWARDS))
    function = imported(path)
    if not callable(function):
        raise UserError(f"reward {path} is not callable; expected a function of a sumo_rl TrafficSignal")
    return function


def _read_only(api: Any) -> SimpleNamespace:
    """Return the simulation without the means to write lights."""
    domains = {name: getattr(api, name) for name in ("vehicle", "lane", "edge", "simulation", "junction")}
    lights = api.trafficlight
    silent = {name: getattr(lights, name) for name in dir(lights) if not name.startswith(("_", "set"))}
    silent |= dict.fromkeys(("setRedYellowGreenState", "setProgramLogic", "setPhase"), lambda *_: None)
    return SimpleNamespace(trafficlight=SimpleNamespace(**silent), **domains)
