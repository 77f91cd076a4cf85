"""What SUMO's files say of one episode second by second: trajectories, lights, trips."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tsc_marl.sim import lights, metrics
from tsc_marl.sim.engine import trajectory_file
from tsc_marl.sim.lights import Lights
from tsc_marl.sim.metrics import Trips
from tsc_marl.sim.road_network import RoadNetwork
from tsc_marl.viz import vehicle_paths
from tsc_marl.viz.vehicle_paths import VehiclePaths


@dataclass(frozen=True)
class TrafficFiles:
    """One episode of N signals; times count from the start of the window."""

    trips: Trips
    paths: VehiclePaths
    lights: list[Lights]
    """[N]"""


def read(out: Path, seed: int, net: RoadNetwork, begin_s: float) -> TrafficFiles:
    """Return what the files `<kind>_<seed>` in a folder say, of an episode with `engine.trajectory_options`."""
    names = [signal.name for signal in net.signals]
    trips = metrics.read_record(out, seed, len(names)).trips
    trips = replace(trips, depart_s=np.where(trips.inserted, trips.depart_s - begin_s, -1.0))
    return TrafficFiles(
        trips, vehicle_paths.read(trajectory_file(out, seed), net, begin_s), lights.read(out / f"tls_{seed}.xml", names, begin_s)
    )
