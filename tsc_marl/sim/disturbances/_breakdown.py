"""A vehicle that breaks down."""

from collections import Counter

import numpy as np

from tsc_marl.sim.road_network import RoadNetwork, edge_of
from tsc_marl.sim.simulation import Simulation

CAR = "passenger"
"""SUMO's vehicle class."""


class Breakdown:
    """A vehicle that stops on its lane: on the lane with the most vehicles of those that are long enough to brake.

    Cars can pass it: the road has at least two lanes for them. Only where no road with a long lane has two, a road with a
    single one is blocked. Sidewalks, bus, bicycle and tram lanes are no lanes for cars. SUMO's timeLoss does not count the stop
    itself.

    Args:
        duration_s: how long the vehicle stands.
        net: the lanes.
        from_s: time of the first attempt, in SUMO's clock [s].
    """

    ROOM_M, BEFORE_M = 60.0, 10.0

    def __init__(self, duration_s: int, net: RoadNetwork, from_s: float) -> None:
        self._duration_s, self._from_s = duration_s, from_s
        self._length_m = {lane: float(net.lane_length_m[i]) for lane, i in net.lane_index.items() if not lane.startswith(":")}

    def apply(self, now: float, api: Simulation) -> None:
        """Stop a vehicle if it is time and there is one with enough room to brake. Called before each decision.

        Args:
            now: SUMO's clock [s].
            api: the running simulation.
        """
        if now < self._from_s:
            return
        stops_m = self._stops_m(api)
        for lane in sorted(stops_m, key=api.lane.getLastStepVehicleNumber, reverse=True):
            for vehicle in api.lane.getLastStepVehicleIDs(lane):
                if api.vehicle.getLanePosition(vehicle) < stops_m[lane] - self.ROOM_M and self._passes(vehicle, lane, api):
                    index = int(lane.rpartition("_")[2])
                    api.vehicle.setStop(vehicle, edge_of(lane), stops_m[lane], index, self._duration_s)
                    self._from_s = np.inf
                    return

    def _stops_m(self, api: Simulation) -> dict[str, float]:
        """Return by lane where a vehicle may stop [m]."""
        cars = {lane: length_m for lane, length_m in self._length_m.items() if CAR not in api.lane.getDisallowed(lane)}
        lanes = Counter(map(edge_of, cars))
        long = {lane: length_m - self.BEFORE_M for lane, length_m in cars.items() if length_m - self.BEFORE_M > self.ROOM_M}
        return {lane: stop_m for lane, stop_m in long.items() if lanes[edge_of(lane)] > 1} or long

    @staticmethod
    def _passes(vehicle: str, lane: str, api: Simulation) -> bool:
        """Return whether a vehicle goes on to another edge: one that ends here may leave before it stops."""
        return api.vehicle.getRoute(vehicle)[-1] != edge_of(lane)
