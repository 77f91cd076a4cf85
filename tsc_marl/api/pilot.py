"""Drives signals of a SUMO that another program runs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tsc_marl import controllers, deploy
from tsc_marl.api.results import SavedPolicy, load_policy
from tsc_marl.api.watchdog import Watch, Watchdog
from tsc_marl.config import read_timing
from tsc_marl.errors import UserError
from tsc_marl.plugins import blamed
from tsc_marl.rollout.task import spec_of
from tsc_marl.sim import observations, road_network, scenario
from tsc_marl.sim.disturbances import select
from tsc_marl.sim.engine import read_vehicles, vehicle_getters
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.occupancy import PersonsInVehicles
from tsc_marl.sim.priority import Priority, kept_to
from tsc_marl.sim.shared_signal import SharedSignal
from tsc_marl.sim.signal_timer import legal_phases
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.sim.signal_view import SignalContext, SignalView
from tsc_marl.sim.simulation import Simulation
from tsc_marl.sim.turning_counts import PlanningContext, planning_context

Choice = Callable[[], np.ndarray]
"""Returns phases `[N]`, without a call of the simulation."""


class Pilot:
    """Gives a policy what the detectors show, and the signals what it chooses, with yellow and minimum green times.

    Call `step` before the first second of the simulation and after every `simulationStep`. Signals that it does not drive keep
    their programs. Where there is traffic already, it takes a signal over when its own program shows one of the phases.

    Attributes:
        signals: names of the signals that it drives.
        timing: of these signals.

    Args:
        policy: a controller, `pretrained`, an algorithm, a run id, a model, a file, a `SavedPolicy`, or a `Controller` class.
        network: a name, a folder with a scenario.yaml, or the `.sumocfg` file of the running simulation.
        signals: names of the signals to drive; None for those of the scenario.
        timing: a `Timing`, or the name of a preset; None for that of the policy's training.
        watchdog: hands signals back to their own programs after a fault, which is logged. None: errors reach the caller.
        act: False leaves the lights alone: `step` returns what the policy would choose.

    Raises:
        UserError: when there is no such network, policy or signal; when the policy learned on other signals, reads more than
            detectors, or leaves the lights to programs of SUMO.
    """

    def __init__(
        self, policy: Any, network: str | Path, signals: Sequence[str] | None = None, timing: Timing | str | None = None,
        watchdog: Watchdog | None = None, act: bool = True,
    ) -> None:  # fmt: skip
        scene = scenario.load(str(network))
        if signals is not None:
            if not signals:
                raise UserError("signals names none to drive; leave it out for all")
            scene = replace(scene, signals=tuple(signals))
        self._scenario = scene
        self._player, self._watchdog, self._act = _player(policy, scene), watchdog, act
        if watchdog and not act:
            raise UserError("act=False leaves the lights alone, so that a watchdog has nothing to do; leave one of them out")
        self.timing = (read_timing(timing) if isinstance(timing, str) else timing) or self._player.timing
        config = self._player.config
        self._net = road_network.of(scene, config.detection_m)
        self._context = planning_context(TrafficEnv(scene, self.timing, config, net=self._net))
        self._player.check(self._context, scene.net)
        self.signals = tuple(signal.name for signal in self._net.signals)
        seen = self._net.seen
        self._blind = np.zeros(len(self._net.lane_length_m), dtype=bool) if seen is None else seen.blind
        self._api: Simulation | None = None
        self._now = self._next_decision_s = 0.0
        self._signals: list[SharedSignal] = []
        self._watch: Watch[np.ndarray] | None = None
        self._priority: Priority | None = None
        self._released = False
        lanes = [len(signal.lanes) for signal in self._net.signals]
        self._signal_of_slot = np.repeat(np.arange(len(lanes)), lanes)

    @property
    def driven(self) -> tuple[str, ...]:
        """The signals whose lights the policy sets now."""
        return tuple(signal.name for signal in self._signals if signal.driven)

    @property
    def faults(self) -> dict[str, str]:
        """The signals that the watchdog has handed back to their own programs, with the fault."""
        return dict(self._watch.faults) if self._watch else {}

    def step(self, api: Simulation) -> dict[str, int] | None:
        """Show the states that are due; at a decision, ask the policy for phases.

        Args:
            api: the module `traci` or `libsumo`, or what `traci.getConnection` returns. An episode starts with the first step of
                another simulation.

        Returns by signal the number of the phase that the policy asks for; None between decisions, and where a fault leaves none.

        Raises:
            UserError: when SUMO's step is not one second, steps were left out, or the simulation has other signals.
        """
        now = api.simulation.getTime()
        if api is not self._api or now < self._now:
            self._start(api, now)
        elif now > self._now + 1:
            raise UserError(f"the simulation went on by {now - self._now:g} s since the last step; call step every second")
        self._now = now
        for signal in self._signals:
            signal.advance(now)
        if self._released or now < self._next_decision_s:
            return None
        self._next_decision_s = now + self.timing.decision_s
        phases = self._decide(api, now) if self._watch is None else self._decide_watched(api, now, self._watch)
        if phases is None:
            return None
        if self._priority is not None:
            phases = kept_to(self._legal, phases, [signal.timer.phase for signal in self._signals])
        choices = dict(zip(self.signals, phases.tolist(), strict=True))
        for signal in self._signals:
            signal.request(choices[signal.name], now)
        return choices

    def release(self) -> None:
        """Hand all signals back to their own programs while the lights stay as they are; `step` on until none is `driven`.

        Raises:
            UserError: when a signal's own program shows none of its phases.
        """
        self._released = True
        for signal in self._signals:
            signal.check_release()
            signal.wanted = False

    def _start(self, api: Simulation, now: float) -> None:
        if (step_s := api.simulation.getDeltaT()) != 1:
            raise UserError(f"SUMO's step is {step_s:g} s; a pilot needs --step-length 1")
        if missing := set(self.signals) - set(api.trafficlight.getIDList()):
            raise UserError(f"the running simulation has no signal {min(missing)}; give the pilot the network that it runs")
        at_once = self._act and not api.vehicle.getIDList() and not api.person.getIDList()
        self._signals = [SharedSignal(api, signal, self.timing, now, at_once) for signal in self._net.signals]
        for signal in self._signals:
            signal.wanted = self._act
            if self._watchdog:
                signal.check_release()
        self._watch = self._watchdog and Watch(self._watchdog, self.timing.decision_s)
        if self.timing.priority != "none":
            self._priority = Priority(self.timing.priority, self._scenario, self._net, api)
        self._persons = PersonsInVehicles(dict(self._scenario.occupancy), api)
        self._player.start()
        self._api, self._next_decision_s, self._released = api, now, False

    def _view(self, api: Simulation, now: float) -> SignalView:
        timers = [signal.timer for signal in self._signals]
        vehicles = read_vehicles(api.vehicle.getIDList(), vehicle_getters(api.vehicle), self._net.lane_index)
        self._legal = legal_phases(timers, now)
        if self._priority is not None:
            self._legal = self._priority.restrict(self._legal, now, vehicles.ids)
        if self._net.seen is not None:
            vehicles = select(vehicles, self._net.seen.sees(vehicles))
        return SignalView(now, vehicles, timers, self._legal, self._blind, api.vehicle.getNextTLS, self._persons)

    def _decide(self, api: Simulation, now: float) -> np.ndarray:
        return self._player.choice(self._view(api, now))()

    def _decide_watched(self, api: Simulation, now: float, watch: Watch[np.ndarray]) -> np.ndarray | None:
        phases, fault, faults = None, "", {}
        try:
            view = self._view(api, now)
            choose, faults = self._player.choice(view), watch.silent(self._detected(view), now)
        except Exception as error:  # whatever it is, the street goes on
            fault = f"the detectors cannot be read: {type(error).__name__}: {error}"
        else:
            phases, fault = watch.ask(choose)
            fault = fault or self._outside(phases)
        watch.judge(self._signals, dict.fromkeys(self.signals, fault) if fault else faults, now)
        return None if fault else phases

    def _detected(self, view: SignalView) -> dict[str, bool]:
        """Return by signal whether its detectors show a vehicle."""
        lanes, coverage = view.vehicles.lane, self._net.detector_coverage
        slots = coverage.slot[lanes][np.isfinite(coverage.offset_m[lanes])]
        seen = np.isin(np.arange(len(self.signals)), self._signal_of_slot[slots])
        return dict(zip(self.signals, seen.tolist(), strict=True))

    def _outside(self, phases: Any) -> str:
        """Return the fault of phases that the signals do not have; empty for none."""
        counts, given = [len(signal.phases) for signal in self._net.signals], np.asarray(phases)
        if given.shape != (len(counts),) or given.dtype.kind not in "iu":
            return f"the policy gave no phase number for each of {len(counts)} signals"
        for name, phase, count in zip(self.signals, given.tolist(), counts, strict=True):
            if not 0 <= phase < count:
                return f"the policy asked for phase {phase} of signal {name}, which has 0 .. {count - 1}"
        return ""


class _TrainedPlayer:
    """A trained policy, episode after episode."""

    def __init__(self, saved: SavedPolicy) -> None:
        self._policy, self.timing, self.config = saved.policy, saved.timing, saved.policy.sim or SimConfig()

    def check(self, context: PlanningContext, path: Path) -> None:
        """Take the network, and refuse one that the policy cannot drive."""
        self._policy.check_version()
        self._policy.check_signals(context.network, path)
        kind = observations.find(self.config.observation)
        if kind.reads_sumo:
            raise UserError(f"observation {self.config.observation} reads SUMO itself, which a pilot does not offer; use lanes")
        self._kind, self._context = kind, context
        self.start()

    def start(self) -> None:
        """Begin an episode."""
        net = self._context.network
        self._observe = self._kind(SignalContext(net, self._context.timing, self._context.detection_m))
        size = len(net.signals) * self._observe.size + 1
        self._actor = deploy.Trained(self._policy, spec_of(self._context.network_name, net, self._observe, size))

    def choice(self, view: SignalView) -> Choice:
        """Observe; return what chooses phases `[N]`."""
        given = {"obs": self._observe(view)[None], "avail": view.legal[None]}
        return lambda: self._actor.predict(given)[0]


class _ControllerPlayer:
    """A classical controller, episode after episode."""

    timing, config = Timing(), SimConfig()

    def __init__(self, name: str, kind: type[controllers.Controller]) -> None:
        if kind.sumo_controlled:
            raise UserError(f"policy {name} runs programs of SUMO, which a pilot does not load; use max_pressure")
        self._name, self._kind = name, kind

    def check(self, context: PlanningContext, path: Path) -> None:
        """Take the network."""
        with blamed("controller", self._name, self._kind):
            self._controller = self._kind(context)

    def start(self) -> None:
        """Begin an episode."""
        self._begun = False

    def choice(self, view: SignalView) -> Choice:
        """Ask the way of all vehicles; return what chooses phases `[N]`."""
        ahead = {vehicle: view.next_signals(vehicle) for vehicle in view.vehicles.ids}
        seen = replace(view, next_signals=ahead.__getitem__)
        if not self._begun:
            self._controller.reset(0, seen)
            self._begun = True
        return lambda: self._act(seen)

    def _act(self, view: SignalView) -> np.ndarray:
        with blamed("controller", self._name, self._kind):
            return self._controller.act(view)


def _player(policy: Any, scene: scenario.Scenario) -> _TrainedPlayer | _ControllerPlayer:
    """Return who plays a policy that is given as everywhere else."""
    if isinstance(policy, type):
        return _ControllerPlayer(policy.__name__, policy)
    if isinstance(policy, SavedPolicy):
        policy.policy.check_network([policy.network], scene.name)
        return _TrainedPlayer(policy)
    if controllers.exists(str(policy)):
        return _ControllerPlayer(str(policy), controllers.find(str(policy)))
    return _TrainedPlayer(load_policy(policy, scene.name))
