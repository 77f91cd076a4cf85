"""Shortest ways by road: which signals are neighbours, to whom a vehicle's delay is charged, which lanes come after a signal."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import sumolib
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

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


class CutGraph:
    """Ways between nodes that end at some of them: edges or lanes, cut at the signals.

    Args:
        pairs: [E, 2] nodes, of which the first leads to the second.
        length_m: [E] how far it is from the first to the second.
        last: [n] bool, nodes that are reached, but not passed.
    """

    def __init__(self, pairs: np.ndarray, length_m: np.ndarray, last: np.ndarray) -> None:
        self._source, self._target = pairs.T
        self._length_m, self._last = length_m, last
        uncut = ~last[self._source]
        ends, shape = (self._source[uncut], self._target[uncut]), (len(last), len(last))
        _, self._part = connected_components(csr_array((np.ones(uncut.sum()), ends), shape=shape), directed=False)

    def around(self, starts: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, csr_array]:
        """Return the nodes that may be reached from some, and the ways between them, numbered by their place among these nodes.

        Args:
            starts: nodes to start from.
            own: nodes that are passed, although they are last ones.
        """
        last = self._last.copy()
        last[own] = False
        is_own = np.zeros(len(last), dtype=bool)
        is_own[own] = True
        near = np.zeros(len(last), dtype=bool)
        near[self._part[np.concatenate([starts, own, self._target[is_own[self._source]]])]] = True
        near = near[self._part]
        place, kept = np.cumsum(near) - 1, near[self._source] & ~last[self._source]
        ends, shape = (place[self._source[kept]], place[self._target[kept]]), (near.sum(), near.sum())
        graph = csr_array((self._length_m[kept], ends), shape=shape)
        return np.flatnonzero(near), graph


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
    pairs = np.array([(index[edge.getID()], index[other.getID()]) for edge in edges for other in _upstream(edge)], dtype=int)
    pairs = pairs.reshape(-1, 2)
    length_m = np.array([edge.getLength() for edge in edges])[pairs[:, 1]]
    all_ways = csr_array((length_m, tuple(pairs.T)), shape=(len(edges), len(edges)))
    free_ways = CutGraph(pairs, length_m, signal >= 0)
    near: list[set[str]] = [set() for _ in names]
    for k, own in enumerate(_edges_of(signal, len(names))):
        nodes, graph = free_ways.around(own, own)
        free_m = _nearest(graph, np.searchsorted(nodes, own), signal[nodes], len(names), np.inf)
        farthest_m = free_m[np.isfinite(free_m)].max()
        any_m = _nearest(all_ways, own, signal, len(names), farthest_m)
        for other in np.flatnonzero(np.isfinite(free_m) & (free_m == any_m)).tolist():
            near[k].add(names[other])
            near[other].add(names[k])
    return {name: tuple(sorted(others - {name})) for name, others in zip(names, near, strict=True)}


def _edges_of(signal: np.ndarray, signals: int) -> list[np.ndarray]:
    """Return the edges of each signal."""
    order = np.argsort(signal, kind="stable")
    return np.split(order, np.searchsorted(signal[order], np.arange(signals)))[1:]


def _nearest(graph: csr_array, starts: np.ndarray, signal: np.ndarray, signals: int, limit_m: float) -> np.ndarray:
    """Return how far the nearest edge of each signal is from some of them [m]; infinity beyond a limit."""
    away_m = dijkstra(graph, indices=starts, min_only=True, limit=limit_m)
    nearest_m = np.full(signals, np.inf)
    np.minimum.at(nearest_m, signal[signal >= 0], away_m[signal >= 0])
    return nearest_m


class LanesDownstream:
    """Which lanes are reached from others, without turning back, junction interiors left out.

    Args:
        net: the network.
        controlled: the lanes of all signals; they are reached, but not passed.
        near_m: other lanes count only up to this distance.
    """

    def __init__(self, net: "sumolib.net.Net", controlled: Iterable[str], near_m: float = np.inf) -> None:
        lanes = [lane for edge in net.getEdges(withInternal=False) for lane in edge.getLanes()]
        self._names, self._near_m = np.array([lane.getID() for lane in lanes]), near_m
        self._index = {lane.getID(): k for k, lane in enumerate(lanes)}
        onward = {(lane.getID(), c.getToLane().getID()) for lane in lanes for c in lane.getOutgoing() if c.getDirection() != "t"}
        on_road = [(self._index[a], self._index[b]) for a, b in sorted(onward) if b in self._index]  # others lead to crossings
        self._controlled = np.zeros(len(lanes), dtype=bool)
        self._controlled[self._places(controlled)] = True
        pairs = np.array(on_road, dtype=int).reshape(-1, 2)
        length_m = np.array([lane.getLength() for lane in lanes])[pairs[:, 0]]
        self._ways = CutGraph(pairs, length_m, self._controlled)

    def __call__(self, starts: Iterable[str], own: Iterable[str]) -> dict[str, dict[str, float]]:
        """Return for each start the lanes reached from it that are controlled or near, itself included, nearest first.

        With the shortest way from the start of the lane to theirs [m].

        Args:
            starts: names of lanes.
            own: controlled lanes that are passed all the same: those of the signal behind which the starts lie.
        """
        names = sorted(set(starts))
        places = self._places(names)
        nodes, graph = self._ways.around(places, self._places(own))
        lanes, controlled, reached = self._names[nodes], self._controlled[nodes], {}
        for name, start in zip(names, np.searchsorted(nodes, places).tolist(), strict=True):
            away_m = dijkstra(graph, indices=start)
            kept = np.flatnonzero(np.isfinite(away_m) & (controlled | (away_m < self._near_m)))
            kept = kept[np.lexsort((lanes[kept], away_m[kept]))]
            reached[name] = dict(zip(lanes[kept].tolist(), away_m[kept].tolist(), strict=True))
        return reached

    def _places(self, lanes: Iterable[str]) -> np.ndarray:
        return np.array([self._index[lane] for lane in lanes], dtype=int)
