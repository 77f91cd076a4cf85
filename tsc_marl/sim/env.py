"""All signals of one network at once, as arrays: reset, step, and the mask of what may be chosen now."""

import contextlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tsc_marl.errors import UserError
from tsc_marl.paths import temporary_folder
from tsc_marl.plugins import blamed
from tsc_marl.sim import demand as demands
from tsc_marl.sim import engine, messages, metrics, observations, rewards, road_network, route_files, seeds, street_programs
from tsc_marl.sim.demand import Demand
from tsc_marl.sim.disturbances import Breakdown, Disturbance, FaultyDetectors, select
from tsc_marl.sim.engine import Engine, Vehicles
from tsc_marl.sim.feedback import Feedback, SimConfig
from tsc_marl.sim.occupancy import PersonsInVehicles
from tsc_marl.sim.priority import Priority, kept_to
from tsc_marl.sim.road_network import RoadNetwork
from tsc_marl.sim.scenario import Scenario
from tsc_marl.sim.signal_timer import SignalTimer, legal_phases
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.sim.signal_view import EpisodeContext, SignalView
from tsc_marl.sim.timetable import transit, vehicle_classes


@dataclass(frozen=True)
class EpisodeState:
    """What one episode consists of, beside the running simulation."""

    seed: int
    sumo_controlled: bool
    detail: bool
    context: EpisodeContext
    feedback: Feedback
    detectors: FaultyDetectors
    incident: Breakdown | None
    obeying: list[SignalTimer]
    """Those of the signals that carry out requests."""
    priority: Priority | None
    persons: PersonsInVehicles


class TrafficEnv:
    """One SUMO episode after another; N signals with a choice act together every `decision_s`.

    Attributes after `reset` and each `step`:
        obs: [N, F] float32.
        avail: [N, A] bool, what may be chosen now; padded phases never may.
        state: [S] float32, what the N signals see together and the share of the window that has passed.
        vehicles: the vehicles on the road.
        now: SUMO's time in s.

    Args:
        scenario: network, demand and window.
        timing: of the signals.
        config: what the agents see and are paid for.
        demand: how the traffic differs from the scenario's.
        disturbance: what goes wrong.
        net: the scenario's road network, where it was read before.

    Raises:
        UserError: when the scenario's files cannot be used.
    """

    def __init__(
        self, scenario: Scenario, timing: Timing | None = None, config: SimConfig | None = None,
        demand: Demand | None = None, disturbance: Disturbance | None = None, net: RoadNetwork | None = None,
    ) -> None:  # fmt: skip
        self.scenario, self.timing, self.config = scenario, timing or Timing(), config or SimConfig()
        self.demand, self.disturbance = demand or Demand(), disturbance or Disturbance()
        self.net = net or road_network.of(scenario, self.config.detection_m)
        self.names = tuple(signal.name for signal in self.net.signals)
        self.n_phases = tuple(len(signal.phases) for signal in self.net.signals)
        self.horizon = -(-scenario.duration_s // self.timing.decision_s)
        self._jam_s = -(-self.disturbance.jam_s // self.timing.decision_s) * self.timing.decision_s
        if self._jam_s:
            self.scenario = replace(scenario, end_s=scenario.end_s + self._jam_s)
        rewards.find(self.config.reward)
        if observations.find(self.config.observation).reads_sumo:
            self._check_no_detectors()
        if (stuck := self.disturbance.stuck) > len(self.names):
            raise UserError(f"disturbance.stuck {stuck} is more than the {len(self.names)} signals of {scenario.name}")
        self._temporary = temporary_folder()
        self._engine: Engine | None = None
        self._episode: EpisodeState | None = None
        self._view: SignalView | None = None
        self.timers: list[SignalTimer] = []
        self.out = Path(self._temporary.name)
        self.now = float(scenario.begin_s)
        self.vehicles = Vehicles.none()
        self.obs, self.state = np.zeros((len(self.names), 0), dtype=np.float32), np.zeros(0, dtype=np.float32)
        self.executed = np.zeros(len(self.names), dtype=int)
        self.avail = np.zeros((len(self.names), max(self.n_phases, default=0)), dtype=bool)

    @property
    def engine(self) -> Engine:
        """The running simulation."""
        if self._engine is None:
            raise RuntimeError("no episode is running; call reset first")
        return self._engine

    @property
    def episode(self) -> EpisodeState:
        """The episode that was started last."""
        if self._episode is None:
            raise RuntimeError("no episode was started; call reset first")
        return self._episode

    @property
    def view(self) -> SignalView:
        """What controllers and observations may see at this decision."""
        if self._view is None:
            raise RuntimeError("no episode was started; call reset first")
        return self._view

    def failed_lanes(self, seed: int) -> np.ndarray:
        """Return [L] bool, the lanes whose detectors are known to have failed when an episode starts."""
        with self._blamed():
            begin_s, duration_s = float(self.scenario.begin_s), self.scenario.duration_s
            failed = self.disturbance.detectors(self.net, seed, begin_s, duration_s).failed
        return failed if self.net.seen is None else failed | self.net.seen.blind

    def reset(
        self, seed: int, *, out: Path | None = None, sumo_controlled: bool = False, programs: str = "",
        gui: list[str] | None = None, detail: bool = False, extra_options: Sequence[str] = (),
    ) -> np.ndarray:  # fmt: skip
        """Start an episode with a SUMO seed and return obs [N, F].

        Args:
            seed: SUMO's random seed.
            out: keep SUMO's trip, summary and signal-state files in this folder.
            sumo_controlled: leave the lights to SUMO's programs, the network's own unless others are given; actions are ignored.
            programs: a SUMO additional file with programs, its content.
            gui: show it in `sumo-gui`, with these options.
            detail: measure approaches, gridlock and emissions too (`sim.metrics`).
            extra_options: further options of SUMO.
        """
        self.close()
        self.out = out or Path(self._temporary.name)
        self.out.mkdir(parents=True, exist_ok=True)
        logged = self.names if out is not None else ()
        played = self._episode_scenario(seed)
        clocks = street_programs.by_the_clock(self.net.responsive) if self.disturbance.stuck else ""
        given = dict.fromkeys(xml for xml in (clocks, programs) if xml)
        command = engine.command(played, seed, self.out, logged, detail, tuple(given))
        needed = route_files.options(self.scenario.routes, self.scenario.begin_s)
        self._engine = Engine(played, [*command, *needed, *extra_options], self.out / messages.file_name(seed), gui)
        self.now = self._engine.now
        self.timers = [signal.timer(self.timing, self.now) for signal in self.net.signals]
        obeying = self._obeying(seed)
        if not sumo_controlled:
            self._show_due(obeying)
        context = EpisodeContext(
            self.net, self.timing, self.config.detection_m, self._engine.api, self.timers, dict(self.scenario.occupancy)
        )
        with self._blamed():
            detectors = self.disturbance.detectors(self.net, seed, self.now, self.scenario.duration_s)
            incident = self.disturbance.incident(self.net, self.now + self.scenario.duration_s / 3)
        self._episode = EpisodeState(
            seed, sumo_controlled, detail, context, Feedback(self.config, context),
            detectors, incident, obeying,
            None if self.timing.priority == "none" else Priority(self.timing.priority, self.scenario, self.net, self._engine.api),
            PersonsInVehicles(context.occupancy, self._engine.api),
        )  # fmt: skip
        self._measure(self._episode)
        if self._jam_s:
            self._jam(seed)
        return self.obs

    def _jam(self, seed: int) -> None:
        """Hold a phase at each signal, drawn by the seed, until the jam has formed."""
        held = seeds.stream(seed, seeds.JAM_PHASES).integers(self.n_phases)
        while self.now < self.scenario.begin_s + self._jam_s:
            self.step(held)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, bool]:
        """Ask for a phase [N] int at each signal and simulate until the next decision.

        Returns reward [N] and whether the window has ended: a truncation, the traffic goes on. `executed` [N] holds
        what the signals really did where an action was not legal.
        """
        episode = self.episode
        end = min(self.now + self.timing.decision_s, float(self.scenario.end_s))
        changing: list[SignalTimer] = []
        if episode.incident is not None:
            with self._blamed():
                episode.incident.apply(self.now, self.engine.api)
        if not episode.sumo_controlled:
            if episode.priority is not None:
                actions = kept_to(self.avail, actions, [timer.phase for timer in self.timers])
            wishes = zip(self.timers, actions.tolist(), self.avail, strict=True)
            executed = [
                wish if wish == timer.phase and legal[wish] else timer.request(wish, self.now) for timer, wish, legal in wishes
            ]
            self.executed = np.array(executed)
            changing = [timer for timer in episode.obeying if timer.next_event_s() <= end]
            self._show_due(changing)
        while self.now < end:
            self.now = min([end, *(timer.next_event_s() for timer in changing)])
            self.engine.advance(self.now)
            self._show_due(changing)
        self._measure(episode)
        return episode.feedback.rewards(self.vehicles), self.now >= self.scenario.end_s

    def metrics(self, names: Sequence[str] = ()) -> dict[str, float]:
        """End the episode and return its metrics by their labels (`sim.metrics`).

        Args:
            names: metrics beside those of the folder, by their import paths.

        Raises:
            UserError: for a metric that fails.
        """
        seed = self.episode.seed
        persons = self.engine.api.person
        noted: dict[str, Any] = {"dropped": self.engine.waited_in_vain_s()}
        noted["persons"] = {name: persons.getWaitingTime(name) for name in persons.getIDList()}
        noted |= {"transit": sorted(transit(self.scenario)), "classes": vehicle_classes(self.scenario)}
        noted["counted"] = {"from_s": self.scenario.counted_from_s, "end_s": self.now}
        noted["occupancy"] = dict(self.scenario.occupancy)
        if self.episode.detail:
            noted["pending"] = self.routes_of_waiting()
        for name, content in noted.items():
            (self.out / f"{name}_{seed}.json").write_text(json.dumps(content), encoding="utf-8")
        self.close()
        return metrics.read(self.out, seed, len(self.names), self.net if self.episode.detail else None, names)

    def routes_of_waiting(self) -> dict[str, Sequence[str]]:
        """Return the edges of the route of each vehicle that waits to be inserted."""
        vehicles = self.engine.api.vehicle
        return {name: self._route(name) for name in vehicles.getLoadedIDList() if vehicles.getDeparture(name) < 0}

    def _route(self, vehicle: str) -> Sequence[str]:
        """Return the edges of a route; SUMO itself searches it only when the vehicle is inserted."""
        api = self.engine.api
        given = api.vehicle.getRoute(vehicle)
        if api.vehicle.isRouteValid(vehicle):
            return given
        ways = [api.simulation.findRoute(a, b).edges for a, b in itertools.pairwise(given)]
        return [*(edge for way in ways for edge in way[:-1]), given[-1]] if all(ways) else given

    def close(self) -> None:
        """End the simulation that runs, if any."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _episode_scenario(self, seed: int) -> Scenario:
        """Return the scenario with this episode's demand, in files of its own where it differs or is not sorted by departure."""
        demand, begin_s = replace(self.demand, scale=self.demand.scale * self.disturbance.demand), self.scenario.begin_s
        path = self.out / f"demand_{seed}.rou.xml"
        if demand.varies:
            demands.write(self.scenario, demand, seed, path)
        elif not all(route_files.plays_as_it_is(given, begin_s) for given in self.scenario.routes):
            route_files.sort(self.scenario.routes, begin_s, path)
        else:
            return self.scenario
        return replace(self.scenario, routes=(path,))

    def _obeying(self, seed: int) -> list[SignalTimer]:
        """Draw the signals that run their fixed program in this episode; return the timers of the others."""
        drawn = seeds.stream(seed, seeds.STUCK_SIGNALS).permutation(len(self.names))
        stuck = drawn[: self.disturbance.stuck].tolist()
        for i in stuck:
            self.engine.restore(self.names[i], self.net.signals[i].program)
        return [timer for i, timer in enumerate(self.timers) if i not in stuck]

    def _show_due(self, timers: Sequence[SignalTimer]) -> None:
        for timer in timers:
            state = timer.pop_due_state(self.now)
            if state is not None:
                self.engine.set_state(timer.name, state)

    def _measure(self, episode: EpisodeState) -> None:
        self.vehicles = self.engine.vehicles(self.net.lane_index)
        detected, failed, seen = self.vehicles, episode.detectors.failed, self.net.seen
        if seen is not None:
            detected, failed = select(detected, seen.sees(detected)), failed | seen.blind
        if self.disturbance.affects_detectors:
            with self._blamed():
                detected = episode.detectors.show(detected, self.now, self.engine.api)
        self.avail = legal_phases(self.timers, self.now)
        if episode.priority is not None:
            self.avail = episode.priority.restrict(self.avail, self.now, self.vehicles.ids)
        self._view = SignalView(
            self.now, detected, self.timers, self.avail, failed, self._next_signals, self._persons_in
        )  # fmt: skip
        self.obs = episode.feedback.observe(self._view)
        passed = (self.now - self.scenario.begin_s) / self.scenario.duration_s
        self.state = np.append(self.obs[episode.feedback.observation.real], np.float32(passed))

    def _next_signals(self, vehicle: str) -> Any:
        """Return what SUMO's `vehicle.getNextTLS` says of a vehicle that the detectors show."""
        if not self.disturbance.affects_detectors:
            return self.engine.api.vehicle.getNextTLS(vehicle)
        with self._blamed():
            return self.episode.detectors.next_signals(vehicle, self.engine.api)

    def _persons_in(self, vehicle: str) -> float:
        """Return the persons in a vehicle that the detectors show; a frozen one shows some that have left."""
        persons = self.episode.persons
        has_left = self.disturbance.affects_detectors and vehicle not in self.vehicles.ids
        return persons.latest(vehicle) if has_left else persons(vehicle)

    def _check_no_detectors(self) -> None:
        name = self.config.observation
        if self.disturbance.affects_detectors:
            raise UserError(f"observation {name} reads SUMO itself: its detectors cannot fail; use lanes")
        if self.net.seen is not None:
            raise UserError(
                f"observation {name} reads SUMO itself, not the detectors of {self.scenario.name}; use movements or lanes"
            )

    def _blamed(self) -> contextlib.AbstractContextManager[None]:
        return blamed("disturbance", self.disturbance.path, type(self.disturbance))
