"""Drives signals of a SUMO that another program runs through TraCI."""

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from tsc_marl.errors import UserError, unknown
from tsc_marl.sim import road_network
from tsc_marl.sim.engine import read_vehicles, vehicle_getters
from tsc_marl.sim.observations.lanes import LanesObservation
from tsc_marl.sim.signal_timing import SignalTimer, Timing, legal_phases
from tsc_marl.sim.signal_view import SignalContext, SignalView
from tsc_marl.sim.simulation import Simulation


class TraciDriver:
    """Gives observations to a policy and phases to SUMO, with yellow and minimum green times.

    Call `step` once before the first second of the simulation and after every `simulationStep`. Signals that the driver does not
    control keep their programs.

    Args:
        api: the connection: the module `traci` or `libsumo`, or what `traci.getConnection` returns.
        net: SUMO network file of the running simulation.
        choose: returns phases `[N]` from `obs` `[N, F]` float32 and `avail` `[N, A]` bool; such as `SavedPolicy.act`.
        timing: signal timing, as in the policy's training.
        signals: names of the signals to control; None for all that have a choice.
        detection_m: how far upstream of the stop line vehicles are detected, in metres, as in the training.

    Raises:
        UserError: when the network file cannot be used, has no such signal, or SUMO's step is not one second.
    """

    def __init__(
        self, api: Simulation, net: Path, choose: Callable[[np.ndarray, np.ndarray], np.ndarray], timing: Timing | None = None,
        signals: Collection[str] | None = None, detection_m: float = road_network.DETECTION_M,
    ) -> None:  # fmt: skip
        self._api, self._choose, self.timing = api, choose, timing or Timing()
        self.net = road_network.read(Path(net), detection_m)
        names = [signal.name for signal in self.net.signals]
        self.controlled = frozenset(names if signals is None else signals)
        for name in self.controlled - set(names):
            raise unknown("signal", name, names)
        if api.simulation.getDeltaT() != 1:
            raise UserError(f"SUMO's step is {api.simulation.getDeltaT()} s; the driver needs --step-length 1")
        now = api.simulation.getTime()
        self._timers = [SignalTimer(signal.name, signal.phases, self.timing, now) for signal in self.net.signals]
        self._observe = LanesObservation(SignalContext(self.net, self.timing, detection_m))
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
