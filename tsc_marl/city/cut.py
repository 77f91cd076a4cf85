"""Make a network's folder from a part of another network: some signals, the roads around them, and who drives there."""

import copy
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from sumolib.net import TLS, Net

from tsc_marl import console
from tsc_marl.city import build, cut_demand, existing
from tsc_marl.city.build import Made
from tsc_marl.city.demand import City
from tsc_marl.city.folders import all_or_nothing
from tsc_marl.errors import UserError, unknown
from tsc_marl.generator import sumo_programs
from tsc_marl.paths import file_name
from tsc_marl.sim import city_detectors, network_file, output_files, scenario, signal_limits, xml_files
from tsc_marl.sim.scenario import Scenario

SUFFIX = "-part"
"""Of a name that the user does not give."""
ADDITIONAL = "part.add.xml"
DETECTORS = "detectors.add.xml"
OF_SIGNALS = {"tlLogic": "id", "wautJunction": "junctionID", "WAUT": ""}
"""Elements of additional files that belong to a signal, with the attribute that names it."""
ADVICE = "give another --around-m"


def run(network: str, signals: Sequence[str], around_m: float, name: str, out: Path, command: str) -> None:
    """Make the folder of a part of a network and print what is in it.

    Args:
        network: the whole.
        signals: those that become agents.
        around_m: how far from their junctions other junctions belong to the part [m].
        name: of the part; empty for that of the whole with `-part`.
        out: folder of the networks.
        command: the command line, for the page and the scenario.

    Raises:
        UserError: when there is no such network or signal, or nobody drives there; then nothing is left.
    """
    start, whole = time.monotonic(), scenario.load(network)
    name = name or f"{whole.name}{SUFFIX}"
    with all_or_nothing(out, name) as (made, work):
        city = City(made, work, made / f"{name}.net.xml", whole.begin_s, whole.end_s)
        result = _make(whole, city, list(dict.fromkeys(signals)), around_m, command)
    build.say(result, out / name, time.monotonic() - start)


def _make(whole: Scenario, city: City, signals: list[str], around_m: float, command: str) -> Made:
    with console.working(f"netconvert: the roads around {len(signals)} of the signals of {whole.name}"):
        net, _ = network_file.read(whole.net)
        names = [tls.getID() for tls in net.getTrafficLights()]
        for signal in signals:
            if signal not in names:
                raise unknown("signal", signal, names)
        part = _roads(whole, city, edges_around(net, signals, around_m))
    for tls in part.getTrafficLights():
        _check_program(net.getTLS(tls.getID()), tls, whole=tls.getID() in signals)
    lines = [f"cut out of {whole.name}, with the junctions up to {around_m:g} m around"]
    lines += _additional(whole, city, part)
    seeing = _detectors(whole, city, part, signals)
    if whole.detectors and not seeing:
        lines.append("no detector lies in this part, so its policies see every vehicle near a stop line")
    lines += cut_demand.write(whole, city, {edge.getID() for edge in part.getEdges(withInternal=False)})
    build.write_scenario(city, {"licence": whole.licence, "source": f"{whole.name} ({whole.source}), {command}",
                                **_settings(whole, city, signals), **seeing})  # fmt: skip
    return build.finish(city, network_file.read(city.net, city.additional)[0], lines, (), command)


def edges_around(net: Net, signals: Sequence[str], around_m: float) -> list[str]:
    """Return the edges of all junctions up to a distance [m] from those of some signals; every such junction is whole."""
    links_of = {tls.getID(): tls.getConnections() for tls in net.getTrafficLights()}
    nodes_of = {name: {lane.getEdge().getToNode() for lane, _, _ in links} for name, links in links_of.items()}
    own = {node for signal in signals for node in nodes_of[signal]}
    near = {
        node for node in net.getNodes()
        if any(math.dist(node.getCoord()[:2], other.getCoord()[:2]) <= around_m for other in own)
    } | own  # fmt: skip
    near = near.union(*(nodes for nodes in nodes_of.values() if nodes & near))
    edges = {edge.getID() for node in near for edge in (*node.getIncoming(), *node.getOutgoing())}
    return sorted(edge for edge in edges if not edge.startswith(":"))


def _roads(whole: Scenario, city: City, edges: Sequence[str]) -> Net:
    kept = city.work / "edges.txt"
    kept.write_text("\n".join(edges), encoding="utf-8")
    city.call("netconvert", {
        "sumo-net-file": str(whole.net), "keep-edges.input-file": str(kept), "offset.disable-normalization": "true",
        "output-file": str(city.net),
    }, f"correct {whole.net}")  # fmt: skip
    return network_file.read(city.net)[0]


def _check_program(before: TLS, after: TLS, whole: bool) -> None:
    """Refuse a signal whose lights differ from those in the whole network, link by link.

    Raises:
        UserError: then, and when a signal that must be whole has lost a link.
    """
    links = [{(a.getID(), b.getID(), link) for a, b, link in tls.getConnections()} for tls in (before, after)]
    steps = [
        {
            name: (program.getType(), program.getOffset(), [(phase.duration, phase.state) for phase in program.getPhases()])
            for name, program in tls.getPrograms().items()
        }
        for tls in (before, after)
    ]
    if steps[0] != steps[1] or not links[1] <= links[0]:
        raise UserError(f"signal {after.getID()}: netconvert gives it another program in the part; {ADVICE}")
    if whole and links[0] != links[1]:
        raise UserError(f"signal {after.getID()}: netconvert keeps {len(links[1])} of its {len(links[0])} links; {ADVICE}")


def _additional(whole: Scenario, city: City, part: Net) -> list[str]:
    """Write what lies in the part of the additional files; return a line about the rest, if any."""
    lanes = {lane.getID() for edge in part.getEdges(withInternal=False) for lane in edge.getLanes()}
    places = {"": set(), "lane": lanes, "edge": {edge.getID() for edge in part.getEdges(withInternal=False)}}
    signals, root, left_out = {tls.getID() for tls in part.getTrafficLights()}, Element("additional"), Counter[str]()
    for path in whole.additional:
        for element in xml_files.elements(path):
            if element.tag in OF_SIGNALS:
                inside = element.get(OF_SIGNALS[element.tag], next(iter(signals))) in signals
            elif element.tag in (*cut_demand.PLACES, *output_files.DETECTORS) and not any(output_files.inputs(element)):
                for access in element.findall("access"):
                    if access.get("lane") not in lanes:
                        element.remove(access)
                inside = all(_lies_in(each, places) for each in element.iter())
            else:
                inside = False
                left_out[element.tag] += element.tag not in (*existing.DECORATION, *existing.TYPES, "location", "route")
            if inside:
                root.append(copy.deepcopy(element))
    if len(root):
        city.additional.append(city.folder / ADDITIONAL)
        sumo_programs.write(root, city.additional[0])
    kinds = ", ".join(f"{number} {tag}" for tag, number in left_out.items() if number)
    return [f"left out of the additional files, since a part has none: {kinds}"] if kinds else []


def _detectors(whole: Scenario, city: City, part: Net, signals: Sequence[str]) -> dict[str, Any]:
    """Write what lies in the part of the city's detectors; return the field of the scenario, if any does."""
    if whole.detectors is None:
        return {}
    lanes, root = {lane.getID() for edge in part.getEdges() for lane in edge.getLanes()}, Element("additional")
    for element in (element for path in whole.detectors.files for element in xml_files.elements(path)):
        if element.tag in city_detectors.TAGS and lanes.issuperset(city_detectors.lane_names(element)):
            root.append(copy.deepcopy(element))
    field: dict[str, Any] = {}
    if len(root):
        sumo_programs.write(root, city.folder / DETECTORS)
        field["files"] = [DETECTORS]
    if cameras := {name: range_m for name, range_m in whole.detectors.cameras if name in (signal_limits.ALL, *signals)}:
        field["cameras"] = cameras
    return {"detectors": field} if field else {}


def _lies_in(element: Element, places: dict[str, set[str]]) -> bool:
    """Return whether all lanes and edges that an element names are there."""
    return all(
        set(element.get(name, "").split()) <= places[kind]
        for kind in ("lane", "edge") for name in (kind, f"{kind}s")
    )  # fmt: skip


def _settings(whole: Scenario, city: City, signals: Sequence[str]) -> dict[str, Any]:
    """Return the fields of the part's scenario.yaml that do not come from its files."""
    raw: dict[str, Any] = {"signals": list(signals)}
    limits = {name: own for name, own in whole.limits if name in (signal_limits.ALL, *signals)}
    if limits:
        raw["limits"] = {name: _limits(city, name, own) for name, own in limits.items()}
    if whole.collision_action != scenario.COLLISION_ACTIONS[0]:
        raw["collision_action"] = whole.collision_action
    raw |= {name: value for name in scenario.PATIENCE if (value := getattr(whole, name)) is not None}
    if whole.warmup_s:
        raw["warmup_s"] = whole.warmup_s
    if whole.occupancy:
        raw["occupancy"] = dict(whole.occupancy)
    if whole.options:
        raw["options"] = dict(whole.options)
    return raw


def _limits(city: City, name: str, own: signal_limits.SignalLimits) -> dict[str, Any]:
    fields = {key: value for key, value in asdict(own).items() if value != getattr(signal_limits.NO_LIMITS, key)}
    if own.intergreen:
        fields["intergreen"] = f"intergreen-{file_name(name)}.csv"
        signal_limits.write_intergreen(city.folder / fields["intergreen"], [list(row) for row in own.intergreen])  # type: ignore[misc]
    return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}
