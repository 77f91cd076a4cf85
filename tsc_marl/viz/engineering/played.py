"""What the pictures show of one episode, from SUMO's files of it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsc_marl.sim.engine import HALTING_MS
from tsc_marl.sim.road_network import RoadNetwork, edge_of
from tsc_marl.viz import traffic_files
from tsc_marl.viz.approach_delay import Approaches
from tsc_marl.viz.traffic_files import TrafficFiles


@dataclass(frozen=True)
class Played:
    """An episode of T seconds with E approaches."""

    files: TrafficFiles
    queue: np.ndarray
    """[T, E] vehicles that halt on their way to the stop line, or wait to be inserted, at the end of each second."""


def read(out: Path, seed: int, net: RoadNetwork, of: Approaches, begin_s: int, duration_s: int) -> Played:
    """Return an episode from the folder of its files, played with its trajectories and measured in detail."""
    files = traffic_files.read(out, seed, net, begin_s)
    pending: dict[str, list[str]] = json.loads((out / f"pending_{seed}.json").read_text(encoding="utf-8"))
    queue = _halting(files, net, of, duration_s) + _waiting(files, pending, net, of, duration_s)
    return Played(files, queue)


def _halting(files: TrafficFiles, net: RoadNetwork, of: Approaches, duration_s: int) -> np.ndarray:
    """Return [T, E]; a record that stands for several seconds counts in each of them."""
    paths = files.paths
    limit_ms = net.lane_limit_ms[paths.lane]
    halts = (1 - paths.lost_s / paths.step_s) * limit_ms < HALTING_MS
    counts = np.zeros((duration_s, len(of.edges)), dtype=int)
    approach = of.ahead[paths.lane]
    chosen = halts & (approach >= 0) & (paths.second <= duration_s)
    for before in range(paths.step_s):
        np.add.at(counts, (paths.second[chosen] - 1 - before, approach[chosen]), 1)
    return counts


def _waiting(files: TrafficFiles, pending: dict[str, list[str]], net: RoadNetwork, of: Approaches, duration_s: int) -> np.ndarray:
    """Return [T, E], the vehicles that are due and not on the road."""
    counts, trips = np.zeros((duration_s + 1, len(of.edges)), dtype=int), files.trips
    for name, lane, departs, waited in zip(
        trips.ids, trips.depart_lane, trips.depart_s.tolist(), trips.depart_delay_s.tolist(), strict=True
    ):
        edge = pending[name][0] if name in pending else edge_of(lane)
        if edge and waited >= 1:
            until = round(departs) if departs >= 0 else duration_s
            k = of.ahead[net.lane_index[f"{edge}_0"]]
            counts[max(0, round(until - waited)), k] += 1
            counts[until, k] -= 1
    return np.cumsum(counts, axis=0)[:-1]
