"""Paths of all vehicles through an episode, from SUMO's floating car data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tsc_marl.sim.road_network import RoadNetwork

MOST_SAMPLES = 4_000_000
"""Largest number of places of vehicles in an episode; a busier one has a longer time between two."""
COLUMNS = ("timestep_time", "vehicle_id", "vehicle_speed", "vehicle_pos", "vehicle_lane")


@dataclass(frozen=True)
class VehiclePaths:
    """Places of V vehicles, every `step_s` seconds; S in all, vehicle after vehicle."""

    ids: Sequence[str]
    """[V] in the order of the first place of each vehicle."""
    start: np.ndarray
    """[V] second of the first place, from the start of the window."""
    count: np.ndarray
    """[V] number of places."""
    second: np.ndarray
    """[S]"""
    lane: np.ndarray
    """[S] number of the lane in the network."""
    pos_m: np.ndarray
    """[S] from the start of the lane."""
    lost_s: np.ndarray
    """[S] time lost against the speed limit since the place before."""
    step_s: int

    @property
    def vehicle(self) -> np.ndarray:
        """[S] the number of the vehicle."""
        return np.repeat(np.arange(len(self.start)), self.count)


def read(path: Path, net: RoadNetwork, begin_s: float) -> VehiclePaths:
    """Return the paths in a file of floating car data, written as CSV with a line per vehicle and second.

    SUMO names a step by its begin; the vehicles are where its end finds them. A vehicle that SUMO takes off the road for a while
    has two paths.
    """
    table = pd.read_csv(path, sep=";", usecols=list(COLUMNS), dtype={"vehicle_id": str, "vehicle_lane": "category"}).dropna()
    names = table["vehicle_lane"].cat.categories
    lane = np.array([net.lane_index[name] for name in names], dtype=int)[table["vehicle_lane"].cat.codes]
    second = np.rint(table["timestep_time"].to_numpy() - begin_s).astype(int) + 1
    code, names = pd.factorize(table["vehicle_id"])
    order = np.lexsort((second, code))
    pos, speed = (table[column].to_numpy()[order] for column in ("vehicle_pos", "vehicle_speed"))
    code, second, lane = code[order], second[order], lane[order]
    lost = np.maximum(0.0, 1 - speed / net.lane_limit_ms[lane])
    step_s = max(1, -(-len(code) // MOST_SAMPLES))
    if step_s > 1:
        ends, lost = _thinned(code, second, lost, step_s)
        code, second, lane, pos = code[ends], second[ends], lane[ends], pos[ends]
    begins = np.ones(len(code), dtype=bool)
    begins[1:] = (np.diff(code) != 0) | (np.diff(second) != step_s)
    first = np.flatnonzero(begins)
    ids = [str(names[i]) for i in code[first]]
    return VehiclePaths(ids, second[first], np.diff(first, append=len(code)), second, lane, pos, lost, step_s)


def _thinned(code: np.ndarray, second: np.ndarray, lost: np.ndarray, step_s: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of every `step_s`th second, and the time lost since the one before."""
    stretch = -(-second // step_s)
    begins = np.ones(len(code), dtype=bool)
    begins[1:] = (np.diff(code) != 0) | (np.diff(stretch) != 0)
    first = np.flatnonzero(begins)
    ends = np.append(first[1:], len(code)) - 1
    whole = second[ends] % step_s == 0
    return ends[whole], np.add.reduceat(lost, first)[whole]
