"""Shortest ways by road: which signals are neighbours, to whom a vehicle's delay is charged, which lanes come after a signal."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import sumolib
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from tsc_marl.sim.detector_coverage import interior


def charged_approach(net: "sumolib.net.Net", ends_at: Mapping[str, str]) -> dict[str, str]:
    """Map every edge, junction interiors too, to the approach that its delay is charged to.

    Args:
        net: the network.
        ends_at: the approaches: edges that end at a signal with a choice, with its name.
    """
    approach, names = {edge: edge for edge in ends_at}, set(ends_at.values())
    fallback = min(approach)
    for step in (_upstream, _downstream, lambda edge: _upstream(edge) + _downstream(edge)):
        for _, edge, source in _dijkstra(net, approach, step):
            approach.setdefault(edge, approach[source])
    for edge in sorted(net.getEdges(withInternal=False), key=lambda edge: edge.getID()):
        for connection in (c for some in edge.getOutgoing().values() for c in some):
            charged = edge if connection.getTLSID() in names else connection.getTo()
            for lane in interior(net, connection):
                approach[lane.getEdge().getID()] = approach.get(charged.getID(), fallback)
    return {edge.getID(): approach.get(edge.getID(), fallback) for edge in net.getEdges(withInternal=True)}


def _upstream(edge: "sumolib.net.edge.Edge") -> list:
    return [other for other in edge.getIncoming() if not other.getID().startswith(":")]


def _downstream(edge: "sumolib.net.edge.Edge") -> list:
    return [other for other in edge.getOutgoing() if not other.getID().startswith(":")]


def _dijkstra(net: "sumolib.net.Net", sources: Iterable[str], neighbours_of: Callable) -> Iterator[tuple[float, str, str]]:
    """Yield (metres, edge, the edge it was reached from) in order of distance from the sources, each edge once."""
    heap = [(0.0, edge, edge) for edge in sorted(sources)]
    done: set[str] = set()
    while heap:
        distance, name, before = heapq.heappop(heap)
        if name in done:
            continue
        done.add(name)
        yield distance, name, before
        for other in neighbours_of(net.getEdge(name)):
            if other.getID() not in done:
                heapq.heappush(heap, (distance + other.getLength(), other.getID(), name))


def adjacency(net: "sumolib.net.Net", ends_at: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return each signal's neighbours: those with a shortest way to it, or from it, that passes no other signal.

    Args:
        net: the network.
        ends_at: the edges that end at a signal with a choice, with its name.
    """
    edges, names = net.getEdges(withInternal=False), sorted(set(ends_at.values()))
    index, rank = {edge.getID(): k for k, edge in enumerate(edges)}, {name: k for k, name in enumerate(names)}
    signal = np.full(len(edges), -1)
    signal[[index[edge] for edge in ends_at]] = [rank[name] for name in ends_at.values()]
    pairs = [(index[edge.getID()], index[other.getID()]) for edge in edges for other in _upstream(edge)]
    source, target = np.array(pairs, dtype=int).reshape(-1, 2).T
    length_m, shape = np.array([edge.getLength() for edge in edges]), (len(edges), len(edges))
    near: list[set[str]] = [set() for _ in names]
    all_ways = csr_array((length_m[target], (source, target)), shape=shape)
    for k in range(len(names)):
        kept = np.isin(signal[source], (-1, k))
        free_ways = csr_array((length_m[target[kept]], (source[kept], target[kept])), shape=shape)
        any_m, free_m = (_nearest(graph, signal, k, len(names)) for graph in (all_ways, free_ways))
        for other in np.flatnonzero(np.isfinite(free_m) & (free_m == any_m)).tolist():
            near[k].add(names[other])
            near[other].add(names[k])
    return {name: tuple(sorted(others - {name})) for name, others in zip(names, near, strict=True)}


def _nearest(graph: csr_array, signal: np.ndarray, start: int, signals: int) -> np.ndarray:
    """Return how far the nearest edge of each signal is from those of one of them [m]."""
    away_m = dijkstra(graph, indices=np.flatnonzero(signal == start), min_only=True)
    nearest_m = np.full(signals, np.inf)
    np.minimum.at(nearest_m, signal[signal >= 0], away_m[signal >= 0])
    return nearest_m


class LanesDownstream:
    """Which lanes are reached from others, without turning back, junction interiors left out.

    Args:
        net: the network.
        controlled: the lanes of all signals; they are reached, but not passed.
    """

    def __init__(self, net: "sumolib.net.Net", controlled: Iterable[str]) -> None:
        lanes = [lane for edge in net.getEdges(withInternal=False) for lane in edge.getLanes()]
        self._names = np.array([lane.getID() for lane in lanes])
        self._index = {lane.getID(): k for k, lane in enumerate(lanes)}
        self._length_m = np.array([lane.getLength() for lane in lanes])
        onward = {(lane.getID(), c.getToLane().getID()) for lane in lanes for c in lane.getOutgoing() if c.getDirection() != "t"}
        on_road = [(self._index[a], self._index[b]) for a, b in sorted(onward) if b in self._index]  # others lead to crossings
        self._pairs = np.array(on_road, dtype=int).reshape(-1, 2)
        self._last = np.zeros(len(lanes), dtype=bool)
        self._last[[self._index[lane] for lane in controlled]] = True

    def __call__(self, starts: Iterable[str], own: Iterable[str]) -> dict[str, dict[str, float]]:
        """Return for each start the lanes reached from it, itself included, nearest first.

        With the shortest way from the start of the lane to theirs [m].

        Args:
            starts: names of lanes.
            own: controlled lanes that are passed all the same: those of the signal behind which the starts lie.
        """
        names, n, last = sorted(set(starts)), len(self._names), self._last.copy()
        last[[self._index[lane] for lane in own]] = False
        source, target = self._pairs[~last[self._pairs[:, 0]]].T
        graph = csr_array((self._length_m[source], (source, target)), shape=(n, n))
        reached = {}
        for name in names:
            away_m = dijkstra(graph, indices=self._index[name])
            order = np.lexsort((self._names, away_m))[: np.isfinite(away_m).sum()]
            reached[name] = dict(zip(self._names[order].tolist(), away_m[order].tolist(), strict=True))
        return reached
