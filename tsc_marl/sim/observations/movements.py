"""The observation `movements`: what waits for each link of a signal, what lies behind it, and what each phase would serve."""

from collections.abc import Iterable

import numpy as np

from tsc_marl.sim.engine import HALTING_MS, Vehicles
from tsc_marl.sim.lane_features import LaneFeatures
from tsc_marl.sim.observations.base import Observation
from tsc_marl.sim.road_network import RoadNetwork, Signal
from tsc_marl.sim.signal_timing import GREEN
from tsc_marl.sim.signal_view import SignalContext, SignalView

LINK_FEATURES = (
    "queue", "approaching", "arriving", "speed", "waiting", "since_green", "occupancy", "halting_behind", "room_behind", "green_behind"
)  # fmt: skip
PHASE_FEATURES = ("shown",)
SIGNAL_FEATURES = ("since_change", "may_change")
TURNS = "slrt"
VEHICLE_M, STUB_M = 7.5, 50.0
"""Room that a halting vehicle takes; receiving lanes shorter than this count together with the lanes behind them."""
GREEN_S, RED_S, DISTANCE_M, LIMIT_MS, BEHIND_VEH, COUNT = 60.0, 120.0, 200.0, 15.0, 10.0, 10.0
"""Scales that bring the features near 1."""


class MovementsObservation(Observation):
    """Per link of a signal, from an incoming to an outgoing lane:

    | feature | meaning | unit |
    |---|---|---|
    | queue, approaching, arriving, waiting, speed | of the incoming lane as in `lanes`; the counts divided by the lane's links | - |
    | since_green | time since the link last had green, at most 3 | 120 s |
    | occupancy | share of the receiving lane that vehicles fill | - |
    | halting_behind, room_behind | halting vehicles on the receiving lane, and vehicles that still fit | 10 veh |
    | green_behind | share of the links behind the receiving lane that have green at the next signal | - |

    then per phase whether it is shown, then the time since the last change was decided [60 s] and whether it may change now.
    Links and phases are padded with zeros to the largest signal. `structure` has what never changes.
    """

    def __init__(self, context: SignalContext) -> None:
        super().__init__(context)
        net, self._lanes = context.network, LaneFeatures(context)
        self._structure = Structure(net, context.detection_m)
        self.n_links, self.n_phases = self._structure.real.shape[1], self._structure.serves.shape[1]
        columns = len(LINK_FEATURES)
        self._split = self.n_links * columns
        self.size = self._split + self.n_phases * len(PHASE_FEATURES) + len(SIGNAL_FEATURES)
        phases = np.repeat(self._structure.phase_real, len(PHASE_FEATURES), axis=1)
        signal = np.ones((len(net.signals), len(SIGNAL_FEATURES)), dtype=bool)
        self.real = np.concatenate([np.repeat(self._structure.real, columns, axis=1), phases, signal], axis=1)
        self._green_s = np.full(self._structure.real.shape, np.nan)

    @property
    def structure(self) -> "Structure":
        """What the phases serve, and the features that never change."""
        return self._structure

    def __call__(self, view: SignalView) -> np.ndarray:
        """Return [N, F] float32."""
        links = np.zeros((*self._structure.real.shape, len(LINK_FEATURES)), dtype=np.float32)
        flat = links.reshape(-1, len(LINK_FEATURES))
        structure, upstream = self._structure, self._lanes(view.vehicles)
        flat[structure.links, :5] = upstream[:, structure.slot].T
        flat[structure.links, :3] /= structure.lane_links[:, None]
        shown = np.array([timer.phase for timer in view.timers])
        green = structure.serves[np.arange(len(shown)), shown] > 0
        self._green_s = np.where(np.isnan(self._green_s) | green, view.now_s, self._green_s)
        links[..., 5] = np.minimum(3.0, (view.now_s - self._green_s) / RED_S) * structure.real
        flat[structure.links, 6:9] = self._behind(view.vehicles)
        flat[structure.links, 9] = structure.mean_ahead(green)
        phases = np.zeros((*structure.phase_real.shape, len(PHASE_FEATURES)), dtype=np.float32)
        phases[np.arange(len(shown)), shown, 0] = 1
        signal = [(min(1.0, t.since_change_s(view.now_s) / GREEN_S), t.may_change(view.now_s)) for t in view.timers]
        parts = [links.reshape(len(shown), -1), phases.reshape(len(shown), -1), np.array(signal, dtype=np.float32)]
        return np.concatenate(parts, axis=1)

    def _behind(self, vehicles: Vehicles) -> np.ndarray:
        """Return [links, 3]: occupancy, halting vehicles and room on the receiving lanes."""
        structure, n_lanes = self._structure, len(self.network.lane_length_m)
        count, halting = (
            np.bincount(vehicles.lane, minlength=n_lanes),
            np.bincount(vehicles.lane, vehicles.speed_ms < HALTING_MS, minlength=n_lanes),
        )
        of_link = [np.bincount(structure.receiver, x[structure.receiving], len(structure.links)) for x in (count, halting)]
        room = structure.capacity_veh - of_link[0]
        return np.stack(
            [np.minimum(1.5, of_link[0] / structure.capacity_veh), of_link[1] / BEHIND_VEH, np.clip(room / BEHIND_VEH, 0, 2)],
            axis=1,
        )


class Structure:
    """The links and phases of N signals, padded to L links and A phases.

    Attributes:
        static: [N, L, K] features of the links that never change.
        real: [N, L] bool, the links that are not padding.
        serves: [N, A, L] int: 2 protected, 1 yielding, 0 red.
        phase_real: [N, A] bool.
        onward: [E, 2] pairs of links n L + l: vehicles of the first go on to the second.
        links: [M] number n L + l of each link.
        slot: [M] its incoming lane among the lanes of all signals.
        lane_links: [M] number of links of that lane.
        receiving, receiver: pairs of a receiving lane and the position of its link in `links`.
        capacity_veh: [M] vehicles that the receiving lanes hold.
    """

    def __init__(self, net: RoadNetwork, detection_m: float) -> None:
        signals, order = net.signals, {lane: i for i, lane in enumerate(_lanes(net.signals))}
        n, n_links = len(signals), max(len(signal.links) for signal in signals)
        n_phases = max(len(signal.phases) for signal in signals)
        flat = [(i * n_links + k, signal, link) for i, signal in enumerate(signals) for k, link in enumerate(signal.links)]
        self.links = np.array([number for number, _, _ in flat])
        self.real = np.isin(np.arange(n * n_links), self.links).reshape(n, n_links)
        self.phase_real = np.arange(n_phases) < np.array([[len(signal.phases)] for signal in signals])
        self.serves = np.zeros((n, n_phases, n_links), dtype=int)
        for i, signal in enumerate(signals):
            for p, state in enumerate(signal.phases):
                given = [state[link.link] for link in signal.links]
                self.serves[i, p, : len(given)] = [("G" == c) + (c in GREEN) for c in given]
        self.slot = np.array([order[link.in_lane] for _, _, link in flat])
        self.lane_links = np.bincount(self.slot)[self.slot]
        leaving: dict[str, list[int]] = {}
        for number, _, link in flat:
            leaving.setdefault(link.in_lane, []).append(number)
        onward = [(number, other) for number, _, link in flat for lane in link.next_lanes for other in leaving.get(lane, ())]
        self.onward = np.array(onward, dtype=int).reshape(-1, 2)
        self._set_receiving(net, flat)
        length_m = net.lane_length_m[[net.lane_index[link.in_lane] for _, _, link in flat]]
        limit_ms = net.lane_limit_ms[[net.lane_index[link.in_lane] for _, _, link in flat]]
        turn = np.array([[link.turn.lower() == turn for turn in TURNS] for _, _, link in flat], dtype=float)
        columns = [
            np.minimum(length_m, detection_m) / DISTANCE_M, limit_ms / LIMIT_MS, 1 / self.lane_links,
            np.minimum(2.0, self.capacity_veh / COUNT), [bool(link.next_lanes) for _, _, link in flat], *turn.T,
        ]  # fmt: skip
        self.static = np.zeros((n * n_links, len(columns)))
        self.static[self.links] = np.array(columns, dtype=float).T
        self.static = self.static.reshape(n, n_links, -1)

    def _set_receiving(self, net: RoadNetwork, flat: list) -> None:
        pairs, capacity = [], []
        for position, (_, _, link) in enumerate(flat):
            lanes = [link.out_lane]
            if net.lane_length_m[net.lane_index[link.out_lane]] < STUB_M:
                lanes = list(dict.fromkeys([*lanes, *link.next_lanes]))
            index = [net.lane_index[lane] for lane in lanes]
            pairs += [(lane, position) for lane in index]
            capacity.append(max(1.0, net.lane_length_m[index].sum() / VEHICLE_M))
        self.receiving, self.receiver = np.array(pairs).T
        self.capacity_veh = np.array(capacity)

    def mean_ahead(self, green: np.ndarray) -> np.ndarray:
        """Return [M]: the mean of a value [N, L] over the links ahead of each link; 0 where none is ahead."""
        source, target = self.onward.T
        size = self.real.size
        total = np.bincount(source, green.ravel()[target], size)[self.links]
        return total / np.maximum(1, np.bincount(source, minlength=size)[self.links])


def _lanes(signals: Iterable[Signal]) -> list[str]:
    return [lane for signal in signals for lane in signal.lanes]
