"""The lanes that links lead onto, short pieces up to the next junction included."""

from collections.abc import Sequence

import numpy as np

from tsc_marl.sim.road_network import VEHICLE_M, Link, RoadNetwork


class ReceivingLanes:
    """Sums and means over the receiving lanes of M links.

    Attributes:
        lane, link: pairs of a receiving lane, by its number in the network, and a link.
        capacity_veh: [M] vehicles that the receiving lanes hold, at least 1.
    """

    def __init__(self, net: RoadNetwork, links: Sequence[Link]) -> None:
        lanes = [[net.lane_index[lane] for lane in link.receiving] for link in links]
        self.lane = np.array([lane for own in lanes for lane in own], dtype=int)
        self.link = np.repeat(np.arange(len(lanes)), list(map(len, lanes)))
        self._n_lanes, self._size = len(net.lane_length_m), len(lanes)
        self.capacity_veh = np.maximum(1.0, self.sums(net.lane_length_m) / VEHICLE_M)

    def count(self, lane: np.ndarray, which: np.ndarray | None = None) -> np.ndarray:
        """Return [M] veh, the vehicles on the receiving lanes, by the number of each vehicle's lane; all, or `which` [K] bool."""
        return self.sums(np.bincount(lane, which, minlength=self._n_lanes))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return [M], the sum over the receiving lanes of a value of each lane of the network."""
        return np.bincount(self.link, values[self.lane], self._size)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return [M], likewise the mean."""
        return self.sums(values) / np.bincount(self.link, minlength=self._size)
