"""From a layout to a SUMO network file: lanes, speeds, one-way streets, turn lanes, signals and their programs."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import sumolib
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tsc_marl.errors import UserError
from tsc_marl.generator import phase_sets, sumo_programs
from tsc_marl.generator.layouts import Layout, Rng, Street
from tsc_marl.generator.recipes import PLANS, Recipe

MOST_LANES = 4
NETCONVERT = {
    "permissive": {"tls.left-green.time": "0", "tls.minor-left.max-speed": "100"},
    "protected_permissive": {"tls.left-green.time": "6", "tls.minor-left.max-speed": "100"},
    "protected": {"tls.left-green.time": "6", "tls.minor-left.max-speed": "0"},
    "split": {"tls.layout": "incoming"},
}
"""Options by kind of plan. Plans of pairs are ours (`phase_sets`)."""


def build(layout: Layout, recipe: Recipe, rng: Rng, path: Path) -> None:
    """Write the network file of a layout.

    Raises:
        UserError: when netconvert refuses it, or no junction can have a signal.
    """
    directions = _directions(layout, recipe, rng)
    signals = _signals(layout, directions, recipe, rng)
    nodes, edges = path.with_name("nodes.xml"), path.with_name("edges.xml")
    _write_nodes(layout, signals, nodes)
    _write_edges(layout, directions, signals, recipe, rng, edges)
    kinds = rng.choice(len(PLANS), len(signals), p=recipe.plans)
    plans = {signal: PLANS[kind] for signal, kind in zip(sorted(signals), kinds.tolist(), strict=True)}
    variants = {kind: path.with_name(f"{kind}.xml") for kind in NETCONVERT if kind in plans.values() or kind == "permissive"}
    for kind, file in variants.items():
        sumo_programs.call("netconvert", {
            "node-files": str(nodes), "edge-files": str(edges), "output-file": str(file), **NETCONVERT[kind],
            "no-turnarounds": str(not recipe.turnarounds).lower(), "no-warnings": "true",
        })  # fmt: skip
    _write_net(variants, plans, recipe, rng, path)
    for file in (nodes, edges, *variants.values()):
        file.unlink()


def _directions(layout: Layout, recipe: Recipe, rng: Rng) -> list[tuple[Street, str, str]]:
    """Return the directed streets (street, from, to); one-way lines only where every place stays in reach."""
    lines = sorted({street.line for street in layout.streets} - layout.main)
    one_way = {line: bool(rng.random() < 0.5) for line in lines if rng.random() < recipe.one_way}
    for line in list(one_way):
        if not _strong(layout, one_way):
            del one_way[line]
    both = [(street, street.start, street.end) for street in layout.streets if one_way.get(street.line) is not False]
    back = [(street, street.end, street.start) for street in layout.streets if one_way.get(street.line) is not True]
    return both + back


def _strong(layout: Layout, one_way: dict[str, bool]) -> bool:
    """Return whether every place but the ends of streets can be reached from every other."""
    inner = {place: k for k, place in enumerate(place for place in layout.places if len(layout.at(place)) > 1)}
    within = [street for street in layout.streets if street.start in inner and street.end in inner]
    pairs = [(inner[street.start], inner[street.end]) for street in within if one_way.get(street.line) is not False]
    pairs += [(inner[street.end], inner[street.start]) for street in within if one_way.get(street.line) is not True]
    rows, columns = np.array(pairs, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(inner), len(inner)))
    return connected_components(graph, connection="strong")[0] <= 1


def _signals(layout: Layout, directions: Sequence[tuple[Street, str, str]], recipe: Recipe, rng: Rng) -> set[str]:
    able = []
    for place in layout.places:
        into = [start for _, start, end in directions if end == place]
        out = [end for _, start, end in directions if start == place]
        if len(into) >= 2 and len(out) >= 1 and len({*into, *out}) >= 3:
            able.append(place)
    if not able:
        raise UserError("no junction can have a signal; use another seed")
    chosen = {place for place in able if rng.random() < recipe.signals}
    return chosen or {max(able, key=lambda place: len(layout.at(place)))}


def _write_nodes(layout: Layout, signals: set[str], path: Path) -> None:
    root = ElementTree.Element("nodes")
    for place, (x, y) in layout.places.items():
        kind = "traffic_light" if place in signals else "priority"
        ElementTree.SubElement(root, "node", {"id": place, "x": f"{x:.2f}", "y": f"{y:.2f}", "type": kind})
    sumo_programs.write(root, path)


def _write_edges(
    layout: Layout, directions: Sequence[tuple[Street, str, str]], signals: set[str], recipe: Recipe, rng: Rng, path: Path
) -> None:
    root, pairs = ElementTree.Element("edges"), {(start, end) for _, start, end in directions}
    for street, start, end in directions:
        main = street.line in layout.main
        lanes = recipe.main_lanes if main else recipe.side_lanes
        if rng.random() < recipe.uneven:
            lanes = int(np.clip(lanes + rng.choice([-1, 1]), 1, MOST_LANES))
        speed = recipe.main_speed_ms if main else recipe.side_speed_ms
        left, right, stub = rng.random(3) < np.array([recipe.pockets, recipe.pockets / 2, recipe.stubs])
        room = end in signals and layout.length_m(street) > recipe.pocket_m + 50
        extra = (int(room and left), int(room and right and lanes > 1))
        edge = ElementTree.SubElement(root, "edge", {
            "id": f"{start}to{end}", "from": start, "to": end, "numLanes": str(lanes + sum(extra)), "speed": f"{speed:.2f}",
            "priority": "3" if main else "1", "spreadType": "right" if (end, start) in pairs else "center",
        })  # fmt: skip
        through = " ".join(map(str, range(extra[1], extra[1] + lanes)))
        if any(extra):
            _split(edge, 0, through)
            _split(edge, -recipe.pocket_m, " ".join(map(str, range(lanes + sum(extra)))))
        elif stub and end in signals and layout.length_m(street) > 80:
            _split(edge, 0, through)
            _split(edge, -float(rng.uniform(15, 35)), through)
    sumo_programs.write(root, path)


def _split(edge: ElementTree.Element, at_m: float, lanes: str) -> None:
    ElementTree.SubElement(edge, "split", {"pos": f"{at_m:.1f}", "lanes": lanes})


def _write_net(variants: dict[str, Path], plans: dict[str, str], recipe: Recipe, rng: Rng, path: Path) -> None:
    """Write the network file with the program that each signal is to have."""
    programs = {
        kind: {program.get("id"): program for program in ElementTree.parse(file).iter("tlLogic")}
        for kind, file in variants.items()
    }
    tree = ElementTree.parse(variants["permissive"]).getroot()
    net = sumolib.net.readNet(str(variants["permissive"])) if "pairs" in plans.values() else None
    for k, element in enumerate(list(tree)):
        if element.tag == "tlLogic":
            name = element.attrib["id"]
            kind = plans[name]
            if kind == "pairs" and net is not None:
                states = phase_sets.phases(net.getNode(name), recipe.most_phases, recipe.right_on_red, rng)
                if len(states) > 1:
                    phase_sets.replace(element, states, int(rng.integers(12, 31)))
            elif kind != "permissive" and name in programs[kind]:
                tree[k] = programs[kind][name]
    sumo_programs.write(tree, path)
