"""sumo-rl's TrafficSignals over our simulation.

They count as in sumo-rl, for its observations and rewards. They get the states of our signals and cannot change lights.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any, Generic, TypeVar

from tsc_marl import plugins
from tsc_marl.sim.signal_view import EpisodeContext
from tsc_marl.sim.simulation import Simulation

T = TypeVar("T")


def environment(module: str) -> ModuleType:
    """Return a module of `sumo_rl.environment`."""
    _allow_sumo_rl()
    return importlib.import_module(f"sumo_rl.environment.{module}")


def _allow_sumo_rl() -> None:
    """Import libsumo, which sets SUMO_HOME: sumo_rl refuses to be imported without it."""
    importlib.import_module("tsc_marl.sim._libsumo")


@dataclass(frozen=True)
class SumoRlKind(Generic[T]):
    """Names of observations or rewards: the files of a folder, import paths of our classes, and of those written for sumo-rl.

    The command line writes names with dashes, as sumo-rl does.
    """

    package: ModuleType
    """The folder."""
    base: type[T]
    """Base class."""
    name: str
    """Word of the messages, such as `reward`."""
    adapt: Callable[[Any, str], type[T]]
    """Returns the class of an object that was written for sumo-rl, from the object and its import path."""

    def available(self) -> list[str]:
        """Return the names of all files, with dashes."""
        return plugins.dashed(self.package)

    def check(self, name: str) -> None:
        """Refuse a name without a file; an import path is not imported.

        Raises:
            UserError: with the nearest name.
        """
        plugins.check_dashed(self.package, name, self.name)

    def find(self, name: str) -> type[T]:
        """Return the class of a name: a file of the folder, or an import path `package.module:name`.

        Raises:
            UserError: for a name without a class.
        """
        self.check(name)
        plain = name if ":" in name else name.replace("-", "_")
        path = plugins.import_path(self.package, plain, self.name)
        if not path:
            return plugins.find(self.package, plain, self.base, self.name)
        _allow_sumo_rl()
        value = plugins.imported(path, self.name)
        return value if isinstance(value, type) and issubclass(value, self.base) else self.adapt(value, name)


class SumoRlSignals:
    """One TrafficSignal per signal of the network.

    Args:
        context: of the episode.
        observation: an ObservationFunction class; None for sumo-rl's own.
        reward: a name of sumo-rl, or a function of a TrafficSignal.
    """

    def __init__(self, context: EpisodeContext, observation: Any = None, reward: str | Callable[[Any], Any] = "queue") -> None:
        api, timing, self._timers = context.simulation, context.timing, context.timers
        traffic_signal = environment("traffic_signal").TrafficSignal
        observe = observation or environment("observations").DefaultObservationFunction
        self._env = SimpleNamespace(fixed_ts=False, observation_class=observe, vehicles={}, sim_step=0.0, sumo=api)
        self._signals = [
            traffic_signal(
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


def _read_only(api: Simulation) -> SimpleNamespace:
    """Return the simulation without the means to write lights."""
    domains = {name: getattr(api, name) for name in ("vehicle", "lane", "edge", "simulation", "junction")}
    lights = api.trafficlight
    silent = {name: getattr(lights, name) for name in dir(lights) if not name.startswith(("_", "set"))}
    silent |= dict.fromkeys(("setRedYellowGreenState", "setProgramLogic", "setPhase"), lambda *_: None)
    return SimpleNamespace(trafficlight=SimpleNamespace(**silent), **domains)
