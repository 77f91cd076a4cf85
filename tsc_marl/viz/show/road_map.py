"""The road network as the page draws it: lanes, junctions, signals with their links, and which road follows which."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tsc_marl.sim import network_file, signal_sheet
from tsc_marl.sim.road_network import RoadNetwork, edge_of
from tsc_marl.sim.scenario import Scenario
from tsc_marl.viz.approach_delay import Approaches
from tsc_marl.viz.show.columns import Columns

PER_METRE = 10
"""Places are whole decimetres."""


@dataclass(frozen=True)
class RoadMap:
    """A network for the page."""

    columns: Columns
    """Lanes in the order of `RoadNetwork.lane_index`, roads, and shapes of junctions."""
    head: dict[str, Any]
    """Signals and approaches, as JSON."""


def road_map(scenario: Scenario, net: RoadNetwork, of: Approaches) -> RoadMap:
    """Return a network for the page."""
    roads = network_file.read(scenario.net)[0]
    lanes = [roads.getLane(name) for name in net.lane_index]
    edges = {edge: k for k, edge in enumerate(dict.fromkeys(map(edge_of, net.lane_index)))}
    follows = [
        [edges[other.getID()] for other in roads.getEdge(edge).getOutgoing()] if not edge.startswith(":") else []
        for edge in edges
    ]
    corners = [node.getShape() for node in roads.getNodes() if len(node.getShape()) > 2]
    return RoadMap(
        {
            **_lines("lane", [lane.getShape() for lane in lanes]),
            "lane_length": (_whole(net.lane_length_m), 1),
            "lane_edge": (np.array([edges[edge_of(name)] for name in net.lane_index]), 1),
            "lane_approach": (of.of_lane, 1),
            "lane_inside": (np.array([name.startswith(":") for name in net.lane_index]), 0),
            "follows_count": (np.array([len(some) for some in follows]), 0),
            "follows": (np.array([other for some in follows for other in some], dtype=int), 1),
            **_lines("junction", corners),
        },
        {
            "signals": _signals(scenario, net),
            "approaches": [
                {"edge": edges[edge], "signal": signal, "name": edge}
                for edge, signal in zip(of.edges, of.signal, strict=True)
            ],
        },
    )  # fmt: skip


def _signals(scenario: Scenario, net: RoadNetwork) -> list[dict[str, Any]]:
    sheets = {sheet.name: sheet for sheet in signal_sheet.of_scenario(scenario)}
    rank = {signal.name: i for i, signal in enumerate(net.signals)}
    return [
        {
            "name": signal.name, "x": round(signal.x, 1), "y": round(signal.y, 1), "phases": signal.phases,
            "links": [
                [link.link, net.lane_index[link.in_lane], net.lane_index[link.out_lane], link.turn] for link in signal.links
            ],
            "serves": [sheets[signal.name].label(phase) for phase in signal.phases],
            "neighbours": [rank[other] for other in signal.neighbours],
        }
        for signal in net.signals
    ]  # fmt: skip


def _lines(name: str, lines: list) -> Columns:
    points = np.array([point[:2] for line in lines for point in line], dtype=float).reshape(-1, 2)
    x, y = _whole(points).T
    return {f"{name}_points": (np.array([len(line) for line in lines]), 0), f"{name}_x": (x, 1), f"{name}_y": (y, 1)}


def _whole(metres: np.ndarray) -> np.ndarray:
    return np.rint(np.asarray(metres) * PER_METRE).astype(int)
