"""Control delay of each approach over an episode: time lost on the way to its stop line, and vehicles that passed it."""

from dataclasses import dataclass

import numpy as np

from tsc_marl.sim import network_file
from tsc_marl.sim.detector_coverage import interior
from tsc_marl.sim.metrics import Trips
from tsc_marl.sim.road_network import RoadNetwork, edge_of
from tsc_marl.sim.scenario import Scenario
from tsc_marl.viz.vehicle_paths import VehiclePaths


@dataclass(frozen=True)
class Approaches:
    """The E approaches of all signals."""

    edges: tuple[str, ...]
    """[E] the road that ends at the stop line."""
    signal: tuple[int, ...]
    """[E]"""
    of_lane: np.ndarray
    """[L] approach of a lane that ends at the stop line, or that lies behind it inside the junction; else -1."""
    ahead: np.ndarray
    """[L] approach that a vehicle on a lane comes to next, as `RoadNetwork.approach` has it."""


def approaches(scenario: Scenario, net: RoadNetwork) -> Approaches:
    """Return the approaches of a network."""
    signal_of = {edge_of(link.in_lane): i for i, signal in enumerate(net.signals) for link in signal.links}
    edges = tuple(signal_of)
    number = {edge: k for k, edge in enumerate(edges)}
    of_lane = np.full(len(net.lane_index), -1)
    roads = network_file.read(scenario.net)[0]
    for edge, k in number.items():
        road = roads.getEdge(edge)
        connections = [connection for some in road.getOutgoing().values() for connection in some if connection.getTLSID()]
        inside = [lane for connection in connections for lane in interior(roads, connection)]
        of_lane[[net.lane_index[lane.getID()] for lane in (*road.getLanes(), *inside)]] = k
    ahead = np.array([number.get(net.approach[edge_of(lane)], -1) for lane in net.lane_index])
    return Approaches(edges, tuple(signal_of.values()), of_lane, ahead)


@dataclass(frozen=True)
class ApproachFlows:
    """Delay and flow in T intervals."""

    lost_s: np.ndarray
    """[T, E] time [veh·s] lost by vehicles on their way to the stop line, insertion included."""
    passed: np.ndarray
    """[T, E] vehicles that passed the stop line."""


def flows(
    paths: VehiclePaths, trips: Trips, pending: dict[str, str], of: Approaches, net: RoadNetwork, seconds: np.ndarray
) -> ApproachFlows:
    """Return delay and flow of each approach; a vehicle loses time for the stop line that it passes next.

    Args:
        paths: of all vehicles.
        trips: of all vehicles, with times from the start of the window.
        pending: the first edges of vehicles never inserted.
        of: the approaches.
        net: the road network.
        seconds: [T] begin of each interval.
    """
    vehicle, place = paths.vehicle, of.of_lane[paths.lane]
    leaves = np.flatnonzero((place[:-1] >= 0) & (place[1:] != place[:-1]) & (vehicle[1:] == vehicle[:-1]))
    upcoming = np.searchsorted(leaves, np.arange(len(place)))
    passes = np.append(leaves, len(place) - 1)[upcoming] if len(place) else leaves
    known = (upcoming < len(leaves)) & (vehicle[passes] == vehicle)
    stays = paths.second[np.cumsum(paths.count) - 1][vehicle] >= paths.second.max(initial=0) - paths.step_s
    charged = np.where(known, place[passes], np.where(stays, of.ahead[paths.lane], -1))
    shape = (len(seconds), len(of.edges))
    lost, passed = np.zeros(shape), np.zeros(shape, dtype=int)

    def interval(second: np.ndarray) -> np.ndarray:
        return np.clip(np.searchsorted(seconds, second, "right") - 1, 0, len(seconds) - 1)

    some = charged >= 0
    begun = paths.second - paths.step_s
    np.add.at(lost, (interval(begun[some]), charged[some]), paths.lost_s[some])
    np.add.at(passed, (interval(begun[leaves + 1]), place[leaves]), 1)
    first = np.cumsum(paths.count) - paths.count
    begins = dict(zip(reversed(paths.ids), charged[first][::-1].tolist(), strict=True))
    begins |= {name: int(of.ahead[net.lane_index[f"{edge}_0"]]) for name, edge in pending.items()}
    end_s = paths.second.max(initial=0)
    for name, departs, waited in zip(trips.ids, trips.depart_s.tolist(), trips.depart_delay_s.tolist(), strict=True):
        if waited >= 1 and begins.get(name, -1) >= 0:
            until = departs if departs >= 0 else end_s
            np.add.at(lost, (interval(np.arange(until - waited, until)), begins[name]), 1.0)
    return ApproachFlows(lost, passed)
