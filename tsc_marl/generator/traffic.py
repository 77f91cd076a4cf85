"""Vehicles of a generated network: routes between its ends, and as many as its signals can, or cannot, serve."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import sumolib

from tsc_marl.controllers import webster
from tsc_marl.errors import UserError
from tsc_marl.generator import sumo_programs
from tsc_marl.generator.layouts import Rng
from tsc_marl.generator.recipes import Recipe
from tsc_marl.sim import road_network, turning_counts

SAMPLED = 1500
"""Trips whose routes stand for all."""
USABLE = 0.85
"""Share of Webster's capacity that is left by changes of phase and by turn lanes that are too short."""
LEAST_VEHICLES, LEAST_M = 20, 50.0
"""A network has more vehicles, and an edge where trips start or end is longer."""


def write(net: Path, path: Path, recipe: Recipe, rng: Rng, seed: int) -> int:
    """Write a route file and return its number of vehicles.

    Raises:
        UserError: when no trip can be routed.
    """
    routes = _routes(net, recipe, rng, seed)
    vehicles = _vehicles(net, routes, recipe)
    shares = np.array(recipe.profile) / sum(recipe.profile)
    parts = rng.choice(len(shares), vehicles, p=shares)
    times = np.sort((parts + rng.random(vehicles)) * recipe.duration_s / len(shares))
    write_vehicles(path, times, [routes[k] for k in rng.integers(len(routes), size=vehicles).tolist()])
    return vehicles


def write_vehicles(path: Path, departures_s: np.ndarray, routes: Sequence[tuple[str, ...]]) -> None:
    """Write a route file with a vehicle for each departure, in their order, and its edges."""
    root = ElementTree.Element("routes")
    for k, (when, edges) in enumerate(zip(departures_s.tolist(), routes, strict=True)):
        options = {"id": str(k), "depart": f"{when:.2f}", "departLane": "best", "departSpeed": "max"}
        vehicle = ElementTree.SubElement(root, "vehicle", options)
        ElementTree.SubElement(vehicle, "route", {"edges": " ".join(edges)})
    sumo_programs.write(root, path)


def _routes(net: Path, recipe: Recipe, rng: Rng, seed: int) -> list[tuple[str, ...]]:
    """Return the routes of sampled trips, ends drawn with uneven weights."""
    edges = sumolib.net.readNet(str(net)).getEdges()
    inner = sorted(edge.getID() for edge in edges if edge.getLength() > LEAST_M)
    first = sorted(edge.getID() for edge in edges if _is_end(edge.getFromNode()))
    last = sorted(edge.getID() for edge in edges if _is_end(edge.getToNode()))
    trips = ElementTree.Element("routes")
    origins, ends = (_draw(outer or inner, inner or outer, recipe.inner, rng) for outer in (first, last))
    for k, (origin, end) in enumerate(zip(origins, ends, strict=True)):
        if origin != end:
            ElementTree.SubElement(trips, "trip", {"id": str(k), "depart": "0", "from": origin, "to": end})
    asked, routed = net.with_name("trips.xml"), net.with_name("routed.xml")
    sumo_programs.write(trips, asked)
    sumo_programs.call("duarouter", {
        "net-file": str(net), "route-files": str(asked), "output-file": str(routed), "ignore-errors": "true",
        "no-step-log": "true", "no-warnings": "true", "weights.random-factor": "1.6", "seed": str(seed),
    })  # fmt: skip
    routes = [tuple(route.get("edges", "").split()) for route in ElementTree.parse(routed).iter("route")]
    for path in (asked, routed, routed.with_suffix(".alt.xml")):
        path.unlink(missing_ok=True)
    if not routes:
        raise UserError("no trip between its streets has a route; use another seed")
    return routes


def _is_end(node: "sumolib.net.node.Node") -> bool:
    """Return whether a street ends at a node; where turn lanes begin, its edge has a suffix (`0to1.-49`) and goes on."""
    before = {edge.getID().split(".")[0].split("to")[0] for edge in node.getIncoming()}
    return len(before | {edge.getID().split(".")[0].split("to")[1] for edge in node.getOutgoing()}) == 1


def _draw(outer: list[str], inner: list[str], share: float, rng: Rng) -> list[str]:
    """Return an edge for each sampled trip, this share of them inside."""
    chosen = [rng.choice(edges, SAMPLED, p=weights / weights.sum()) for edges, weights in _weighted((outer, inner), rng)]
    return np.where(rng.random(SAMPLED) < share, chosen[1], chosen[0]).tolist()


def _weighted(groups: tuple[list[str], ...], rng: Rng) -> list[tuple[list[str], np.ndarray]]:
    return [(edges, rng.lognormal(0, 0.7, len(edges))) for edges in groups]


def _vehicles(net: Path, routes: list[tuple[str, ...]], recipe: Recipe) -> int:
    """Return the number of vehicles that brings the busiest junction to the recipe's flow ratio."""
    return max(LEAST_VEHICLES, round(vehicles_per_hour(net, routes, recipe.flow_ratio) * recipe.duration_s / 3600))


def vehicles_per_hour(net: Path, routes: Sequence[tuple[str, ...]], flow_ratio: float) -> float:
    """Return how many vehicles an hour on such routes bring the busiest junction to a flow ratio."""
    roads = road_network.read(net)
    demands = webster.demands(roads, turning_counts.count(roads, Counter(routes), 1.0))
    ratios = [webster.flow_ratio(demand, range(len(demand.serves))) for demand in demands]
    return len(routes) * flow_ratio * USABLE / max(*ratios, *_unsignalled(net, routes), 1e-3)


def _unsignalled(net: Path, routes: Sequence[tuple[str, ...]]) -> list[float]:
    """Return the flow ratio of each junction without a signal: half of its approaches wait for the other half."""
    passed = Counter(edge for route in routes for edge in route[:-1])
    ratios = []
    for node in sumolib.net.readNet(str(net)).getNodes():
        flows = [passed[edge.getID()] / edge.getLaneNumber() / webster.SATURATION_VEH_H for edge in node.getIncoming()]
        if node.getType() == "priority" and len(flows) > 1:
            ratios.append((sum(flows) + max(flows)) / 2)
    return ratios
