"""The observation `movements`: what waits for each link of a signal, what lies behind it, and what each phase would serve."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tsc_marl.sim.engine import HALTING_MS, Vehicles
from tsc_marl.sim.lane_features import ARRIVING_VEH, QUEUE_VEH, LaneFeatures, time_in_phase
from tsc_marl.sim.observations.base import Observation
from tsc_marl.sim.receiving_lanes import ReceivingLanes
from tsc_marl.sim.road_network import RoadNetwork, Signal
from tsc_marl.sim.signal_limits import NO_LIMITS
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.sim.signal_view import SignalContext, SignalView

LINK_FEATURES = (
    "queue", "approaching", "arriving", "speed", "waiting", "bound_queue", "bound_approaching", "bound_arriving", "bound_near",
    "occupancy", "halting_behind", "room_behind", "green_behind",
    "green", "since_green", "failed", "failed_behind",
)  # fmt: skip
PHASE_FEATURES = ("shown", "legal")
SIGNAL_FEATURES = ("since_change", "may_change", "decision", "change", "min_green")
TURNS = "slrt"
PASSING = {"G": 2, "g": 1, "s": 1}
"""States in which vehicles pass: protected, yielding, and after a stop."""
VERSION = 3
"""Of the columns and their scales; a policy relies on them."""
ONWARD_M, NEAR_M = 500.0, 50.0
"""How far away the next signal may be; how far from the stop line a vehicle is near."""
RED_S, TIMING_S, DISTANCE_M, LIMIT_MS, BEHIND_VEH, COUNT = 120.0, 10.0, 200.0, 15.0, 10.0, 10.0
"""Scales that bring the features near 1."""


class MovementsObservation(Observation):
    """Three tables in a row. Per link of a signal, from an incoming to an outgoing lane.

    | feature | meaning | unit |
    |---|---|---|
    | queue, approaching, arriving, speed, waiting | of the incoming lane as in `lanes`; counts over the lane's links | - |
    | bound_queue, bound_approaching, bound_arriving | the same counts of the vehicles that will pass this link | - |
    | bound_near | those of them within 50 m of the stop line | 5 veh |
    | occupancy | share of the receiving lane that vehicles fill | - |
    | halting_behind, room_behind | halting vehicles on the receiving lane, and vehicles that still fit | 10 veh |
    | green_behind | share of the links behind the receiving lane that have green at the next signal | - |
    | green | whether the phase shown gives it green | - |
    | since_green | time since it last had green, at most 3 | 120 s |
    | failed, failed_behind | share of the detection distance, and of the receiving lanes, whose detectors have failed | - |

    then per phase whether it is shown, and whether it may be chosen; then per signal the time since the last change was decided
    [60 s], whether it may change now, and the timing: time between decisions, from green to green, and least green [10 s each].
    Links and phases are padded with zeros to the largest signal. `structure` has what never changes.
    """

    portable = True
    version = VERSION
    link_features = LINK_FEATURES

    def __init__(self, context: SignalContext) -> None:
        super().__init__(context)
        net, self._lanes = context.network, LaneFeatures(context)
        self.structure = Structure(net, context.detection_m)
        self._bound = BoundVehicles(context, self.structure)
        columns = len(self.link_features)
        phases = np.repeat(self.structure.phase_real, len(PHASE_FEATURES), axis=1)
        signal = np.ones((len(net.signals), len(SIGNAL_FEATURES)), dtype=bool)
        self.real = np.concatenate([np.repeat(self.structure.real, columns, axis=1), phases, signal], axis=1)
        self.size = self.real.shape[1]
        self._green_s = np.full(self.structure.real.shape, np.nan)
        self._timing = np.array([timing_features(signal, context.timing) for signal in net.signals])

    def __call__(self, view: SignalView) -> np.ndarray:
        """Return [N, F] float32."""
        structure, timers, rows = self.structure, view.timers, np.arange(len(view.timers))
        shown = np.array([timer.phase for timer in timers])
        green = structure.serves[rows, shown] > 0
        links = np.zeros((*structure.real.shape, len(self.link_features)), dtype=np.float32)
        flat = links.reshape(-1, len(self.link_features))
        upstream = self._lanes(view.vehicles)[:, structure.slot].T
        upstream[:, :3] /= structure.lane_links[:, None]
        failed_behind = structure.receiving.means(view.failed)
        ahead = structure.mean_ahead(green)
        self._green_s = np.where(np.isnan(self._green_s) | green, view.now_s, self._green_s)
        since_green = np.minimum(3.0, (view.now_s - self._green_s) / RED_S).ravel()[structure.links]
        bound = self._bound.find(view)
        parts = [upstream, self._bound.features(bound), self._behind(view.vehicles)]
        parts += [ahead, green.ravel()[structure.links], since_green, self.failed(view.failed)[structure.slot], failed_behind]
        flat[structure.links] = np.column_stack([*parts, *self.further(bound, view)])
        phases = np.zeros((*structure.phase_real.shape, len(PHASE_FEATURES)), dtype=np.float32)
        phases[rows, shown, 0] = 1
        phases[..., 1] = view.legal
        signal = np.column_stack([time_in_phase(view), self._timing]).astype(np.float32)
        parts = [links.reshape(len(rows), -1), phases.reshape(len(rows), -1), signal]
        return np.concatenate(parts, axis=1)

    def further(self, bound: "Bound", view: SignalView) -> list[np.ndarray]:
        """Return [M] of each link feature that comes after `LINK_FEATURES`, for M links."""
        return []

    def failed(self, lanes: np.ndarray) -> np.ndarray:
        """Return, per signal lane, the share of its detection distance on failed lanes; `lanes` is [L] bool."""
        return self._lanes.failed(lanes)

    def _behind(self, vehicles: Vehicles) -> np.ndarray:
        """Return [links, 3]: occupancy, halting vehicles and room on the receiving lanes."""
        receiving = self.structure.receiving
        count, halting = receiving.count(vehicles.lane), receiving.count(vehicles.lane, vehicles.speed_ms < HALTING_MS)
        room = receiving.capacity_veh - count
        occupancy = np.minimum(1.5, count / receiving.capacity_veh)
        return np.column_stack([occupancy, halting / BEHIND_VEH, np.clip(room / BEHIND_VEH, 0, 2)])


@dataclass(frozen=True)
class Bound:
    """The vehicles within the detection distance that will pass one of our links, K of them."""

    vehicles: np.ndarray
    """[K] places among the vehicles of the view."""
    link: np.ndarray
    """[K] place of the link."""
    halting: np.ndarray
    """[K] bool."""
    arriving: np.ndarray
    """[K] bool: moving, and due at the stop line before the next decision."""
    near: np.ndarray
    """[K] bool: within `NEAR_M` of the stop line."""


class BoundVehicles:
    """The vehicles within the detection distance, by the link that they will pass.

    The link and the way to its stop line are asked once for each vehicle and lane.
    """

    def __init__(self, context: SignalContext, structure: "Structure") -> None:
        self._detection_m, self._decision_s = context.detection_m, context.timing.decision_s
        self._length_m = context.network.lane_length_m
        self._offset_m = context.network.detector_coverage.offset_m.min(axis=1)
        self._place = structure.place
        self._size = len(structure.links)
        self._known: dict[tuple[str, int], tuple[int, float]] = {}

    def find(self, view: SignalView) -> Bound:
        """Return the vehicles that are bound for our links."""
        vehicles = view.vehicles
        to_line_m = self._offset_m[vehicles.lane] + self._length_m[vehicles.lane] - vehicles.pos_m
        seen = np.flatnonzero(to_line_m <= self._detection_m)
        pos_m, speed_ms, kept = vehicles.pos_m[seen], vehicles.speed_ms[seen], self._known
        rows = zip(seen.tolist(), vehicles.lane[seen].tolist(), pos_m.tolist(), strict=True)
        named = [(vehicles.ids[k], lane, pos) for k, lane, pos in rows]
        self._known = {(name, lane): kept.get((name, lane)) or self._ask(view, name, pos) for name, lane, pos in named}
        link, way_m = np.array(list(self._known.values())).reshape(-1, 2).T
        distance_m = way_m - pos_m
        halting, near = speed_ms < HALTING_MS, distance_m < NEAR_M
        arriving = ~halting & (distance_m < speed_ms * self._decision_s)
        bound = (link >= 0) & (distance_m <= self._detection_m)
        return Bound(seen[bound], link[bound].astype(int), halting[bound], arriving[bound], near[bound])

    def count(self, bound: Bound, weight: np.ndarray) -> np.ndarray:
        """Return [M], M links: the sums of a weight [K] of each vehicle."""
        return np.bincount(bound.link, weight, self._size)

    def features(self, bound: Bound) -> np.ndarray:
        """Return [M, 4], M links: halting, moving, arriving, and near vehicles, in the units of the observation."""
        counts = [self.count(bound, which) for which in (bound.halting, ~bound.halting, bound.arriving, bound.near)]
        return np.column_stack(counts) / (QUEUE_VEH, QUEUE_VEH, ARRIVING_VEH, ARRIVING_VEH)

    def _ask(self, view: SignalView, vehicle: str, pos_m: float) -> tuple[int, float]:
        """Return the place of the next link among ours, else -1, and its stop line's distance from the lane's start [m]."""
        ahead = view.next_signals(vehicle)
        if not ahead:
            return -1, 0.0
        signal, link, distance_m, _ = ahead[0]
        return self._place.get((signal, link), -1), distance_m + pos_m


class Structure:
    """The links and phases of N signals, padded to L links and A phases.

    Attributes:
        static: [N, L, K] features of the links that never change.
        real: [N, L] bool, the links that are not padding.
        serves: [N, A, L] int: 2 protected, 1 yielding, 0 red.
        phase_real: [N, A] bool.
        onward: [E, 2] pairs of links n L + l: vehicles of the first go on to the second.
        links: [M] number n L + l of each link.
        place: the position in `links` of each signal's link, by the signal's name and the link's index in its state.
        slot: [M] its incoming lane among the lanes of all signals.
        lane_links: [M] number of links of that lane.
        receiving: the lanes that the links lead onto.
    """

    def __init__(self, net: RoadNetwork, detection_m: float) -> None:
        signals, order = net.signals, {lane: i for i, lane in enumerate(_lanes(net.signals))}
        n, n_links = len(signals), max(len(signal.links) for signal in signals)
        n_phases = max(len(signal.phases) for signal in signals)
        flat = [(i * n_links + k, signal, link) for i, signal in enumerate(signals) for k, link in enumerate(signal.links)]
        self.links = np.array([number for number, _, _ in flat])
        self.place = {(signal.name, link.link): place for place, (_, signal, link) in enumerate(flat)}
        self.real = np.isin(np.arange(n * n_links), self.links).reshape(n, n_links)
        self.phase_real = np.arange(n_phases) < np.array([[len(signal.phases)] for signal in signals])
        self.serves = np.zeros((n, n_phases, n_links), dtype=int)
        for i, signal in enumerate(signals):
            for p, state in enumerate(signal.phases):
                given = [state[link.link] for link in signal.links]
                self.serves[i, p, : len(given)] = [PASSING.get(char, 0) for char in given]
        self.slot = np.array([order[link.in_lane] for _, _, link in flat])
        self.lane_links = np.bincount(self.slot)[self.slot]
        leaving: dict[str, list[int]] = {}
        for number, _, link in flat:
            leaving.setdefault(link.in_lane, []).append(number)
        near = [[lane for lane, away_m in link.next_lanes.items() if away_m <= ONWARD_M] for _, _, link in flat]
        onward = [(flat[k][0], other) for k, lanes in enumerate(near) for lane in lanes for other in leaving.get(lane, ())]
        self.onward = np.array(onward, dtype=int).reshape(-1, 2)
        self.receiving = ReceivingLanes(net, [link for _, _, link in flat])
        lane = [net.lane_index[link.in_lane] for _, _, link in flat]
        length_m, limit_ms = net.detector_coverage.reach_m(net.lane_length_m)[self.slot], net.lane_limit_ms[lane]
        away_m = [min(link.next_lanes.values(), default=ONWARD_M) for _, _, link in flat]
        turn = np.array([[link.turn.lower() == turn for turn in TURNS] for _, _, link in flat], dtype=float)
        columns = [
            np.minimum(length_m, detection_m) / DISTANCE_M, limit_ms / LIMIT_MS, 1 / self.lane_links,
            np.minimum(2.0, self.receiving.capacity_veh / COUNT), np.minimum(1.0, np.array(away_m) / ONWARD_M), *turn.T,
        ]  # fmt: skip
        self.static = np.zeros((n * n_links, len(columns)))
        self.static[self.links] = np.array(columns, dtype=float).T
        self.static = self.static.reshape(n, n_links, -1)

    def mean_ahead(self, green: np.ndarray) -> np.ndarray:
        """Return [M]: the mean of a value [N, L] over the links ahead of each link; 0 where none is ahead."""
        source, target = self.onward.T
        size = self.real.size
        total = np.bincount(source, green.ravel()[target], size)[self.links]
        return total / np.maximum(1, np.bincount(source, minlength=size)[self.links])


def timing_features(signal: Signal, timing: Timing) -> list[float]:
    """Return decision, change and least green of a signal [10 s]; of its phases the shortest counts."""
    seconds = [timing.decision_s, timing.change_s, timing.min_green_s]
    if signal.limits != NO_LIMITS:
        changes = signal.changes(timing)
        seconds[1:] = changes.own_change_s, min(changes.least_green_s[phase] for phase in changes.allowed)
    return [value / TIMING_S for value in seconds]


def _lanes(signals: Iterable[Signal]) -> list[str]:
    return [lane for signal in signals for lane in signal.lanes]
