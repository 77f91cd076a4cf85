"""Along the lanes: which stretches of road a signal's detectors cover, and what comes after it."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sumolib


@dataclass(frozen=True)
class DetectorCoverage:
    """Which signal lanes see a vehicle on each lane: K of them at most, padded with an infinite offset.

    A lane that can feed several signal lanes counts 1/k for each of them, so that every vehicle counts once.
    """

    slot: np.ndarray
    """[L, K] row in the list of all signals' lanes."""
    offset_m: np.ndarray
    """[L, K] from the downstream end of the lane to the stop line."""
    weight: np.ndarray
    """[L, K] share of a vehicle."""

    def reach_m(self, length_m: np.ndarray) -> np.ndarray:
        """Return, per signal lane, the length of road that leads to its stop line [m]; `length_m` is [L] of the lanes."""
        seen = np.isfinite(self.offset_m)
        reach_m = np.zeros(self.slot[seen].max() + 1)
        np.maximum.at(reach_m, self.slot[seen], (self.offset_m + length_m[:, None])[seen])
        return reach_m

    def covered_share(self, lanes: np.ndarray, length_m: np.ndarray, reach_m: float) -> np.ndarray:
        """Return, per signal lane, the share of the road within `reach_m` of its stop line that lies on some lanes.

        Args:
            lanes: [L] bool.
            length_m: [L] of the lanes.
            reach_m: upstream of the stop line.
        """
        if not lanes.any():
            return np.zeros(self.slot.max() + 1)
        metres = np.clip(reach_m - self.offset_m, 0.0, length_m[:, None]).ravel()
        slot, on_lanes = self.slot.ravel(), np.repeat(lanes, self.slot.shape[1])
        return np.bincount(slot, metres * on_lanes) / np.bincount(slot, metres)


def interior(net: "sumolib.net.Net", connection: "sumolib.net.connection.Connection") -> list:
    """Return the lanes inside the junction that a connection passes, in driving order."""
    lanes = []
    via = connection.getViaLaneID()
    while via and net.getLane(via) not in lanes:
        lanes.append(net.getLane(via))
        onward = lanes[-1].getOutgoing()
        via = onward[0].getViaLaneID() if onward else ""
    return lanes


def detector_coverage(net: "sumolib.net.Net", index: dict[str, int], slots: Sequence[str], reach_m: float) -> DetectorCoverage:
    """Follow every signal lane upstream to `reach_m`, through stubs, junction interiors and plain junctions."""
    seen: list[dict[int, float]] = [{} for _ in index]
    at_signals = frozenset(slots)
    for slot, name in enumerate(slots):
        queue = deque([(net.getLane(name), 0.0)])
        while queue:
            lane, offset = queue.popleft()
            if offset >= reach_m or seen[index[lane.getID()]].get(slot, np.inf) <= offset:
                continue
            seen[index[lane.getID()]][slot] = offset
            offset += lane.getLength()
            for connection in lane.getIncomingConnections():
                back = connection.getFromLane()
                if back.getID().startswith(":") or back.getID() in at_signals:
                    continue
                before = offset
                for inner in reversed(interior(net, connection)):
                    row = seen[index[inner.getID()]]
                    if before < min(reach_m, row.get(slot, np.inf)):
                        row[slot] = before
                    before += inner.getLength()
                queue.append((back, before))
    shape = (len(seen), max(map(len, seen)))
    coverage = DetectorCoverage(np.zeros(shape, dtype=int), np.full(shape, np.inf), np.zeros(shape))
    for i, row in enumerate(seen):
        coverage.slot[i, : len(row)] = sorted(row)
        coverage.offset_m[i, : len(row)] = [row[slot] for slot in sorted(row)]
        coverage.weight[i, : len(row)] = 1 / max(len(row), 1)
    return coverage
