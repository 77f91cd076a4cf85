"""From a layout to a SUMO network file: lanes, speeds, one-way streets, turn lanes, signals and their programs."""

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tsc_marl.errors import UserError
from tsc_marl.generator import signal_plans, sumo_programs
from tsc_marl.generator.layouts import Layout, Rng, Street
from tsc_marl.generator.recipes import Recipe

MOST_LANES = 4
JUNCTION_M, LANE_M = 6.0, 3.2
"""A junction ends about so far from its centre: the first, and the second for each lane."""
CUT_M = (20.0, 110.0)
"""Least and greatest length of a street to the outside that is cut."""


def build(layout: Layout, recipe: Recipe, rng: Rng, path: Path) -> None:
    """Write the network file of a layout.

    Raises:
        UserError: when netconvert refuses it, or no junction can have a signal.
    """
    directions = _directions(layout, recipe, rng)
    signals = _signals(layout, directions, recipe, rng)
    nodes, edges = path.with_name("nodes.xml"), path.with_name("edges.xml")
    _write_edges(layout, directions, signals, recipe, rng, edges)
    _write_nodes(layout, signals, nodes)
    options = {"node-files": str(nodes), "edge-files": str(edges), "no-turnarounds": str(not recipe.turnarounds).lower()}
    able = sorted(signals & signal_plans.with_choice(options, path))
    if able:
        _write_nodes(layout, able, nodes)
        signal_plans.write(options, able, recipe, rng, path)
        nodes.unlink()
        edges.unlink()
    elif recipe.one_way:
        build(layout, dataclasses.replace(recipe, one_way=0.0), rng, path)
    else:
        raise UserError("no streets of its layout cross; use another seed")


def cut(layout: Layout, recipe: Recipe, rng: Rng) -> None:
    """Let some streets to the outside end close to their junction."""
    for end in list(layout.places):
        if len(layout.at(end)) == 1 and rng.random() < recipe.cut:
            layout.shorten_leg(end, _junction_m(recipe) + rng.uniform(*CUT_M))


def _junction_m(recipe: Recipe) -> float:
    return JUNCTION_M + LANE_M * max(recipe.main_lanes, recipe.side_lanes)


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
    busy = {place for place in able if {street.line for street in layout.at(place)} & layout.main}
    chosen = {place for place in able if rng.random() < (recipe.signals if place not in busy else (1 + recipe.signals) / 2)}
    return chosen or set(able)


def _write_nodes(layout: Layout, signals: Collection[str], path: Path) -> None:
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
        lanes, speed = (
            (recipe.main_lanes, recipe.main_speed_ms) if street.line in layout.main else (recipe.side_lanes, recipe.side_speed_ms)
        )
        if rng.random() < recipe.uneven:
            lanes = int(np.clip(lanes + rng.choice([-1, 1]), 1, MOST_LANES))
        left, right, stub = rng.random(3) < np.array([recipe.pockets, recipe.pockets / 2, recipe.stubs])
        junction_m = _junction_m(recipe)
        room_m = layout.length_m(street) - 2 * junction_m if end in signals else 0.0
        extra = (int(left and room_m > recipe.pocket_m), int(right and lanes > 1 and room_m > recipe.pocket_m))
        edge = ElementTree.SubElement(root, "edge", {
            "id": f"{start}to{end}", "from": start, "to": end, "numLanes": str(lanes + sum(extra)), "speed": f"{speed:.2f}",
            "priority": "3" if street.line in layout.main else "1", "spreadType": "right" if (end, start) in pairs else "center",
        })  # fmt: skip
        through = " ".join(map(str, range(extra[1], extra[1] + lanes)))
        if any(extra):
            _split(edge, 0, through)
            _split(edge, -recipe.pocket_m - junction_m, " ".join(map(str, range(lanes + sum(extra)))))
        elif stub and room_m > 40:
            _split(edge, 0, through)
            _split(edge, -junction_m - float(rng.uniform(6, 22)), through)
    sumo_programs.write(root, path)


def _split(edge: ElementTree.Element, at_m: float, lanes: str) -> None:
    ElementTree.SubElement(edge, "split", {"pos": f"{at_m:.1f}", "lanes": lanes})
