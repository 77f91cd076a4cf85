"""A vehicle that breaks down."""

import numpy as np

from tsc_marl.sim.road_network import RoadNetwork, edge_of
from tsc_marl.sim.simulation import Simulation


class Breakdown:
    """A vehicle that stops on its lane: on the lane with the most vehicles of those that are long enough to brake.

    Where there are long edges with several lanes, one of those: the others can pass. SUMO's timeLoss does not count the
    stop itself.

    Args:
        duration_s: how long the vehicle stands.
        net: the lanes.
        from_s: time of the first attempt, in SUMO's clock [s].
    """

    ROOM_M, BEFORE_M = 60.0, 10.0

    def __init__(self, duration_s: int, net: RoadNetwork, from_s: float) -> None:
        self._duration_s, self._from_s = duration_s, from_s
        long = {lane: net.lane_length_m[i] - self.BEFORE_M for lane, i in net.lane_index.items() if not lane.startswith(":")}
        long = {lane: float(stop_m) for lane, stop_m in long.items() if stop_m > self.ROOM_M}
        several = {lane: stop_m for lane, stop_m in long.items() if f"{edge_of(lane)}_1" in net.lane_index}
        self._stops_m = several or long

    def apply(self, now: float, api: Simulation) -> None:
        """Stop a vehicle if it is time and there is one with enough room to brake. Called before each decision.

        Args:
            now: SUMO's clock [s].
            api: the running simulation.
        """
        if now < self._from_s:
            return
        for lane in sorted(self._stops_m, key=api.lane.getLastStepVehicleNumber, reverse=True):
            for vehicle in api.lane.getLastStepVehicleIDs(lane):
                if api.vehicle.getLanePosition(vehicle) < self._stops_m[lane] - self.ROOM_M and self._passes(vehicle, lane, api):
                    index = int(lane.rpartition("_")[2])
                    api.vehicle.setStop(vehicle, edge_of(lane), self._stops_m[lane], index, self._duration_s)
                    self._from_s = np.inf
                    return

    @staticmethod
    def _passes(vehicle: str, lane: str, api: Simulation) -> bool:
        """Return whether a vehicle goes on to another edge: one that ends here may leave before it stops."""
        return api.vehicle.getRoute(vehicle)[-1] != edge_of(lane)
