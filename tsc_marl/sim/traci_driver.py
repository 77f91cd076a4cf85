"""Drives signals of a SUMO that another program runs through TraCI."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

import numpy as np

from tsc_marl.errors import UserError, unknown
from tsc_marl.sim import observations, road_network
from tsc_marl.sim.engine import read_vehicles, vehicle_getters
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.observations import Observation
from tsc_marl.sim.road_network import RoadNetwork
from tsc_marl.sim.signal_limits import Limits
from tsc_marl.sim.signal_timer import legal_phases
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.sim.signal_view import SignalContext, SignalView
from tsc_marl.sim.simulation import Simulation

Choice = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Returns phases `[N]` from `obs` `[N, F]` float32 and `avail` `[N, A]` bool."""


class Drives(Protocol):
    """A policy with what it observes, as `SavedPolicy` is one."""

    timing: Timing

    @property
    def observed(self) -> SimConfig:
        """Its observation and detection distance."""
        ...

    def choice(self, net: RoadNetwork, path: Path, observation: Observation) -> Choice:
        """Return what chooses the phases of a network's signals.

        Raises:
            UserError: when the policy learned on other signals.
        """
        ...


class TraciDriver:
    """Gives observations to a policy and phases to SUMO, with yellow and minimum green times.

    Call `step` once before the first second of the simulation and after every `simulationStep`. Signals that the driver does not
    control keep their programs.

    Args:
        api: the connection: the module `traci` or `libsumo`, or what `traci.getConnection` returns.
        net: SUMO network file of the running simulation.
        choose: a `SavedPolicy`, which brings its observation; or a function of your own that returns phases `[N]` from the
            observation `lanes`, `obs` `[N, F]` float32, and `avail` `[N, A]` bool.
        timing: signal timing; None for that of the policy's training.
        signals: names of the signals to control; None for all that have a choice.
        detection_m: how far upstream of the stop line vehicles are detected, in metres; None for that of the training.
        limits: of single signals, `limits` of the loaded scenario; a policy that learned with some needs the same.

    Raises:
        UserError: when the network file cannot be used, has no such signal or other signals than the policy's, when the
            observation needs more than detectors, or when SUMO's step is not one second.
    """

    def __init__(
        self, api: Simulation, net: Path, choose: Drives | Choice, timing: Timing | None = None,
        signals: Collection[str] | None = None, detection_m: float | None = None, limits: Limits = (),
    ) -> None:  # fmt: skip
        own = SimConfig() if callable(choose) else choose.observed
        observation = observations.find(own.observation)
        if observation.reads_sumo:
            raise UserError(f"observation {own.observation} reads SUMO itself, which this driver does not offer; use lanes")
        self._api, detection_m = api, detection_m or own.detection_m
        self.timing = timing or (Timing() if callable(choose) else choose.timing)
        self.net = road_network.read(Path(net), detection_m, limits=limits)
        names = [signal.name for signal in self.net.signals]
        self.controlled = frozenset(names if signals is None else signals)
        for name in self.controlled - set(names):
            raise unknown("signal", name, names)
        if api.simulation.getDeltaT() != 1:
            raise UserError(f"SUMO's step is {api.simulation.getDeltaT()} s; the driver needs --step-length 1")
        now = api.simulation.getTime()
        self._timers = [signal.timer(self.timing, now) for signal in self.net.signals]
        self._observe = observation(SignalContext(self.net, self.timing, detection_m))
        self._choose = choose if callable(choose) else choose.choice(self.net, Path(net), self._observe)
        self._failed = np.zeros(len(self.net.lane_length_m), dtype=bool)
        self._next_decision_s = now

    def step(self) -> None:
        """Choose phases when a decision is due, and show the states that are due."""
        now = self._api.simulation.getTime()
        self._show_due(now)
        if now >= self._next_decision_s:
            self._next_decision_s = now + self.timing.decision_s
            self._decide(now)
            self._show_due(now)

    def _show_due(self, now: float) -> None:
        for timer in self._timers:
            state = timer.pop_due_state(now)
            if state is not None and timer.name in self.controlled:
                self._api.trafficlight.setRedYellowGreenState(timer.name, state)

    def _decide(self, now: float) -> None:
        vehicles = read_vehicles(self._api.vehicle.getIDList(), vehicle_getters(self._api.vehicle), self.net.lane_index)
        legal = legal_phases(self._timers, now)
        view = SignalView(now, vehicles, self._timers, legal, self._failed, self._api.vehicle.getNextTLS)
        actions = self._choose(self._observe(view), legal)
        for timer, action in zip(self._timers, actions.tolist(), strict=True):
            timer.request(action, now)
