"""Make a network's folder from a city's files: all of it, or nothing."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from sumolib.net import Net

from tsc_marl import console
from tsc_marl.city import counts, demand, existing, findings, page, roads, sources
from tsc_marl.city.counts import Count
from tsc_marl.city.demand import City
from tsc_marl.city.findings import Finding
from tsc_marl.city.folders import all_or_nothing
from tsc_marl.city.options import DemandOptions, RoadOptions
from tsc_marl.city.sources import Source
from tsc_marl.errors import UserError
from tsc_marl.paths import NETWORKS
from tsc_marl.sim import network_file, output_files, road_network, scenario, signal_sheet, sumocfg
from tsc_marl.sim.road_network import RoadNetwork
from tsc_marl.sim.scenario import Scenario

OSM_LICENCE = "ODbL 1.0, © OpenStreetMap contributors, where the extract is theirs"
LOG = "warnings.txt"
ADVICE = "correct the file that it names"
WRITTEN = ("net", "routes", "additional", "begin_s", "end_s")
"""Fields that `write_scenario` writes of the files."""
NO_ROAD = "no road for vehicles in it; take an extract with streets (highway=*)"
TO_GUESS = "OSM has no traffic_signals there; give --guess-signals, or put signals into the extract"


@dataclass(frozen=True)
class Made:
    """What came out."""

    scenario: Scenario
    roads: RoadNetwork
    findings: Sequence[Finding]
    lines: Sequence[str]
    """About the demand."""
    fit: Sequence[tuple[Count, int]]
    """Counts, with the vehicles that pass."""
    warnings: Sequence[str]
    """Of SUMO's programs."""


def run(given: Path, name: str, out: Path, chosen: RoadOptions, wanted: DemandOptions, command: str) -> None:
    """Make the folder of a network and print what is in it.

    Args:
        given: OSM extract, SUMO network, configuration, or folder with one.
        name: of the network; empty for that of the file.
        out: folder of the networks.
        chosen: how roads are made from OSM.
        wanted: who drives and walks.
        command: the command line, for the page and the scenario.

    Raises:
        UserError: when a file cannot be used; then nothing is left.
    """
    start, source = time.monotonic(), sources.recognise(given.expanduser())
    chosen.own()
    name = name or source.name
    with all_or_nothing(out, name) as (made, work):
        result = _make(source, made, work, chosen, wanted, command)
    say(result, out / name, time.monotonic() - start)


def _make(source: Source, made: Path, work: Path, chosen: RoadOptions, wanted: DemandOptions, command: str) -> Made:
    city, kept = _roads(source, made, work, chosen, wanted)
    with console.working(f"reading {city.net.name}"):
        net, _ = network_file.read(city.net, city.additional)
        _check_signals(source, net)
    lines, fit = _demand(city, net, source, kept.get("routes", []), wanted)
    if wanted.any and kept:
        lines.append(f"the routes of {source.path} are left out, since another demand is given")
    if (listed := city.folder / roads.LINES).exists():
        with console.working("lines of buses and trams"):
            lines.append(demand.lines(city, listed, wanted.seed))
        listed.unlink()
    if wanted.persons:
        with console.working("pedestrians"):
            lines.append(demand.walking(city, net, wanted.persons, wanted.seed))
    own = {key: _plain(kept[key]) for key in sumocfg.FIELDS if key in kept and key not in WRITTEN}
    if options := kept.get("options"):
        own["options"] = options
    licence = OSM_LICENCE if source.kind == "osm" else "see the files"
    write_scenario(city, {"licence": licence, "source": f"{source.path.name}, {command}", **own})
    return finish(city, net, lines, fit, command)


def finish(city: City, net: Net, lines: Sequence[str], fit: Sequence[tuple[Count, int]], command: str) -> Made:
    """Check a folder that has all its files, and write its page.

    Raises:
        UserError: when SUMO refuses a file, or nothing is there to control.
    """
    made = city.folder
    scene = scenario.read(made / scenario.FILE, made.name)
    with console.working("SUMO's own check"):
        network = road_network.of(scene)
        scenario.scheduled(scene)
        _start(scene, city)
    (made / LOG).write_text("\n".join([*city.warnings, ""]), encoding="utf-8")
    with console.working("drawing the page"):
        sheets = signal_sheet.sheets(net, network, scene.signals)
        faults = findings.find(net, network, sheets)
        text = page.text(scene, net, sheets, faults, fit, lines, command)
        (made / page.FILE).write_text(text, encoding="utf-8")
    return Made(scene, network, faults, lines, fit, city.warnings)


def _roads(source: Source, made: Path, work: Path, chosen: RoadOptions, wanted: DemandOptions) -> tuple[City, dict[str, Any]]:
    """Write network and additional files; return them, and the fields of a configuration."""
    begin_s = wanted.begin_s or 0
    end_s = begin_s + demand.HOUR_S if wanted.end_s is None else wanted.end_s
    if source.kind == "osm":
        city = City(made, work, made / f"{made.name}.net.xml", begin_s, end_s)
        with console.working(f"netconvert: roads and signals of {source.path.name}"):
            try:
                city.warnings += roads.convert(source.path, city.net, chosen)
            except UserError as error:
                raise UserError(f"from {source.path}: {NO_ROAD if 'No nodes loaded' in str(error) else error}") from None
        stops = made / roads.STOPS
        city.additional += [stops] if stops.exists() else []
        return city, {}
    if source.kind == "net":
        return City(made, work, existing.copied(source.path, source.path.parent, made), begin_s, end_s), {}
    kept = existing.fields(source.path, wanted.end_s)
    home = source.path.parent
    with console.working(f"copying the files of {source.path.name}"):
        city = City(made, work, existing.copied(kept["net"], home, made), kept["begin_s"], kept["end_s"])
        city.additional += [existing.copied(path, home, made) for path in kept["additional"]]
    if wanted.begin_s is not None or wanted.end_s is not None:
        city.begin_s = city.begin_s if wanted.begin_s is None else wanted.begin_s
        city.end_s = city.end_s if wanted.end_s is None else wanted.end_s
    return city, kept


def _check_signals(source: Source, net: Net) -> None:
    if not net.getEdges(withInternal=False):
        raise UserError(f"from {source.path}: {NO_ROAD}")
    if not net.getTrafficLights():
        what = TO_GUESS if source.kind == "osm" else "make the network with signals (netconvert --tls.guess)"
        raise UserError(f"from {source.path}: no signal in it, so there is nothing to control; {what}")


def _demand(
    city: City, net: Net, source: Source, own: Sequence[Path], wanted: DemandOptions
) -> tuple[list[str], list[tuple[Count, int]]]:
    """Write the vehicles; return lines about them, and the fit of counts."""
    if wanted.counts:
        counted = counts.read(wanted.counts, net)
        begin_s, end_s = counts.window(counted)
        city.begin_s = begin_s if wanted.begin_s is None else wanted.begin_s
        city.end_s = end_s if wanted.end_s is None else wanted.end_s
        with console.working("routeSampler: routes that match the counts"):
            fit = counts.sample(city, net, counted, wanted.routes, wanted.seed)
        return [f"demand of {', '.join(map(str, wanted.counts))}: {counts.verdict(fit)}"], fit
    if wanted.routes:
        begin_s, end_s = demand.window(wanted.routes)
        city.begin_s = begin_s if wanted.begin_s is None else wanted.begin_s
        city.end_s = end_s if wanted.end_s is None else wanted.end_s
        with console.working("routes"):
            left_out = existing.take_routes(city, list(wanted.routes), wanted.routes[0].parent)
        return [f"demand of {', '.join(map(str, wanted.routes))}{left_out}"], []
    if wanted.od and wanted.taz:
        with console.working("od2trips: trips of the matrix"):
            return [demand.od_matrix(city, wanted.od, wanted.taz, wanted.seed)], []
    if own and not wanted.rate:
        with console.working("routes"):
            return [f"demand of {source.path}{existing.take_routes(city, list(own), source.path.parent)}"], []
    with console.working("randomTrips: random demand"):
        return [demand.at_random(city, wanted.rate, wanted.seed)], []


def write_scenario(city: City, others: dict[str, Any]) -> None:
    """Write the scenario.yaml of a folder: its files and window, and other fields."""
    names = {
        field: [path.relative_to(city.folder).as_posix() for path in getattr(city, field)] for field in ("routes", "additional")
    }
    raw: dict[str, Any] = {
        "net": city.net.relative_to(city.folder).as_posix(),
        **{field: paths for field, paths in names.items() if paths},
        "begin_s": city.begin_s,
        "end_s": city.end_s,
        **others,
    }
    text = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=1000)
    (city.folder / scenario.FILE).write_text(text, encoding="utf-8")


def _plain(value: str) -> str | float:
    """Return a setting of a configuration as YAML has it."""
    return float(value) if re.fullmatch(r"-?\d+(\.\d+)?", str(value)) else value


def _start(scene: Scenario, city: City) -> None:
    """Let SUMO read all files.

    Raises:
        UserError: with SUMO's reason, when it refuses one.
    """
    additional = [output_files.confine(path, city.work, f"check{k}") for k, path in enumerate(scene.additional)]
    options = {
        "net-file": str(scene.net), "route-files": ",".join(map(str, scene.routes)), "begin": str(scene.begin_s),
        "end": str(scene.begin_s + 1), "route-steps": "0", "no-step-log": "true",
    }  # fmt: skip
    if additional:
        options["additional-files"] = ",".join(map(str, additional))
    city.call("sumo", options, ADVICE)


def say(made: Made, folder: Path, seconds: float) -> None:
    """Print what is in a folder that was made."""
    agents, fixed = len(made.roads.signals), len(made.roads.fixed)
    keep = f" of {agents + fixed} signals, the others keep their program" if fixed else f" signal{'s' if agents > 1 else ''}"
    console.say(f"{folder}: agents for {agents}{keep}; {scenario.scheduled(made.scenario)} vehicles in "
                f"{made.scenario.begin_s} .. {made.scenario.end_s} s; {seconds:.1f} s")  # fmt: skip
    for line in made.lines:
        console.say(f"  {line}")
    if made.fit:
        console.show(counts.table(made.fit))
        console.say(f"  all counts: {folder / counts.FIT}")
    for line in findings.lines(made.findings, str(folder / page.FILE)):
        console.say(f"  {line}")
    if made.warnings:
        console.say(f"  warnings of SUMO's programs, {len(made.warnings)}: {folder / LOG}")
    console.say(f"map, phases and warnings: {folder / page.FILE}")
    name = folder.name if folder.parent.resolve() == NETWORKS.resolve() else str(folder)
    console.say(f"next: {console.make_line('evaluate', NET=name, POLICY=['max_pressure', 'fixed_time', 'pretrained'])}")
    console.say(f"      {console.make_line('train', NET=name, FROM='pretrained')}")
