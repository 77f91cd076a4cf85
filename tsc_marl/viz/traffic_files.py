"""What SUMO's files say of one episode second by second: trajectories, lights, trips."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tsc_marl.sim import metrics
from tsc_marl.sim.metrics import Trips
from tsc_marl.sim.road_network import RoadNetwork
from tsc_marl.viz import lights, vehicle_paths
from tsc_marl.viz.lights import Lights
from tsc_marl.viz.vehicle_paths import VehiclePaths


@dataclass(frozen=True)
class TrafficFiles:
    """One episode of N signals; times count from the start of the window."""

    trips: Trips
    paths: VehiclePaths
    lights: list[Lights]
    """[N]"""


def options(out: Path, seed: int) -> tuple[str, ...]:
    """Return SUMO's options that make it write the trajectories of an episode to the folder of its files."""
    return ("--fcd-output", str(_trajectories(out, seed)), *vehicle_paths.OPTIONS)


def read(out: Path, seed: int, net: RoadNetwork, begin_s: float) -> TrafficFiles:
    """Return what the files `<kind>_<seed>` in a folder say, of an episode played with these `options`."""
    names = [signal.name for signal in net.signals]
    trips = metrics.read_record(out, seed, len(names)).trips
    trips = replace(trips, depart_s=np.where(trips.inserted, trips.depart_s - begin_s, -1.0))
    return TrafficFiles(
        trips, vehicle_paths.read(_trajectories(out, seed), net, begin_s), lights.read(out / f"tls_{seed}.xml", names, begin_s)
    )


def _trajectories(out: Path, seed: int) -> Path:
    return out / f"trajectories_{seed}.csv.gz"
