"""sumo-rl's TrafficSignals over our simulation.

They count as in sumo-rl, for its observations and rewards. They get the states of our signals and cannot change lights.
"""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from tsc_marl import plugins
from tsc_marl.errors import UserError
from tsc_marl.sim.episode import EpisodeContext


def imported(path: str, kind: str) -> Any:
    """Return the object at an import path `package.module:name`, whose module may import sumo_rl.

    Raises:
        UserError: when there is none.
    """
    importlib.import_module("tsc_marl.sim._libsumo")  # libsumo sets SUMO_HOME, without which sumo_rl refuses to be imported
    return plugins.imported(path, kind)


class SumoRlSignals:
    """One TrafficSignal per signal of the network.

    Args:
        context: of the episode.
        observation: an ObservationFunction class; None for sumo-rl's own.
        reward: a name of sumo-rl, or a function of a TrafficSignal.
    """

    def __init__(self, context: EpisodeContext, observation: Any = None, reward: str | Callable[[Any], Any] = "queue") -> None:
        api, timing, self._timers = context.simulation, context.timing, context.timers
        importlib.import_module("tsc_marl.sim._libsumo")  # libsumo sets SUMO_HOME, without which sumo_rl refuses to be imported
        from sumo_rl.environment.observations import DefaultObservationFunction
        from sumo_rl.environment.traffic_signal import TrafficSignal

        observe = observation or DefaultObservationFunction
        self._env = SimpleNamespace(fixed_ts=False, observation_class=observe, vehicles={}, sim_step=0.0, sumo=api)
        self._signals = [
            TrafficSignal(
                self._env, signal.name, timing.decision_s, timing.yellow_s + timing.all_red_s, timing.min_green_s,
                timing.max_red_s or 0, 0, reward, _read_only(api),
            )
            for signal in context.network.signals
        ]  # fmt: skip

    def __iter__(self) -> Iterator[Any]:
        """Return the TrafficSignals in the network's order."""
        return iter(self._signals)

    def show(self, now: float) -> None:
        """Give the TrafficSignals the states of our signals."""
        self._env.sim_step = now
        for signal, timer in zip(self._signals, self._timers, strict=True):
            signal.green_phase = timer.phase
            signal.time_since_last_phase_change = int(timer.since_change_s(now))
            signal.is_yellow = signal.time_since_last_phase_change < signal.yellow_time
            signal.next_action_time = now


@contextlib.contextmanager
def blamed(kind: str, source: str) -> Iterator[None]:
    """Name the function that failed.

    Raises:
        UserError: for any error inside.
    """
    try:
        yield
    except Exception as error:  # anything may come out of a user's own function
        raise UserError(f"{kind} {source} failed with {type(error).__name__}: {error}") from error


def _read_only(api: Any) -> SimpleNamespace:
    """Return the simulation without the means to write lights."""
    domains = {name: getattr(api, name) for name in ("vehicle", "lane", "edge", "simulation", "junction")}
    lights = api.trafficlight
    silent = {name: getattr(lights, name) for name in dir(lights) if not name.startswith(("_", "set"))}
    silent |= dict.fromkeys(("setRedYellowGreenState", "setProgramLogic", "setPhase"), lambda *_: None)
    return SimpleNamespace(trafficlight=SimpleNamespace(**silent), **domains)
