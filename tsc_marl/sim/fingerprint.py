"""Fingerprints: of the signals that a policy relies on, part by part, and of the files that an episode is made of."""

import functools
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.parsers import expat

from tsc_marl.errors import UserError
from tsc_marl.paths import digest
from tsc_marl.sim import engine, road_network
from tsc_marl.sim.road_network import RoadNetwork
from tsc_marl.sim.scenario import PATIENCE, Scenario
from tsc_marl.sim.xml_files import open_xml

Signals = dict[str, dict[str, list[str]]]
"""By signal, what a policy's inputs and outputs stand for: `phases`, `lanes`, `links` and `neighbours`, in their order; `limits`
of a signal that has some."""
PARTS = ("phases", "lanes", "links", "limits", "neighbours")
NAMED = 3
"""Longest list in a message."""
PREFIX = "scenario."
"""First part of the tags of a run."""
TRAFFIC_FIELDS = ("collision_action", *PATIENCE, "options")
"""Fields of a scenario that are options of SUMO."""
NOT_TRAFFIC = ("-file", "-output", "--begin ", "--end ", "--seed ", "--no-")
"""Parts of SUMO's options that name files, seeds and outputs: they are no setting of the traffic."""


def of_signals(network: RoadNetwork) -> Signals:
    """Return the fingerprint of the signals; what does not concern them, such as shapes and durations, has no part in it."""
    return {
        signal.name: {
            "phases": list(signal.phases),
            "lanes": list(signal.lanes),
            "links": sorted(f"{link.link} {link.in_lane} -> {link.out_lane}" for link in signal.links),
            "neighbours": list(signal.neighbours),
            **({"limits": texts} if (texts := signal.limits.texts()) else {}),
        }
        for signal in network.signals
    }


def of_files(scenario: Scenario) -> dict[str, str]:
    """Return the digests of a scenario's files, and its window; where it has them, warm-up, occupancy, agents, detectors, limits.

    They are equal wherever the files lie, and however they are laid out.

    Raises:
        UserError: when a file cannot be read.
    """
    return {
        "network": _digest([scenario.net]),
        "demand": _digest(scenario.routes),
        "additional": _digest(scenario.additional),
        "window": f"{scenario.begin_s} .. {scenario.end_s}",
        **({"warmup": f"{scenario.warmup_s} s"} if scenario.warmup_s else {}),
        **({"occupancy": " ".join(f"{name} {persons:g}" for name, persons in scenario.occupancy)} if scenario.occupancy else {}),
        **({"signals": " ".join(sorted(scenario.signals))} if scenario.signals else {}),
        **(
            {"detectors": digest(_digest(scenario.detectors.files) + repr(scenario.detectors.cameras))}
            if scenario.detectors
            else {}
        ),
        **({"limits": digest(repr([(name, own.texts()) for name, own in scenario.limits]))} if scenario.limits else {}),
    }


def of_scenario(*scenarios: Scenario) -> dict[str, str]:
    """Return all that decides the traffic beside the settings of a command: `of_files`, and SUMO's options.

    Where several scenarios differ, one digest stands for all of them, in whatever order.

    Raises:
        UserError: when a file cannot be read.
    """
    ordered = sorted(scenarios, key=lambda scenario: scenario.name)
    parts = [of_files(one) | {"sumo_options": _sumo_options(*(getattr(one, name) for name in TRAFFIC_FIELDS))} for one in ordered]
    values = {name: [part.get(name, "all") for part in parts] for name in dict.fromkeys(name for part in parts for name in part)}
    return {name: own[0] if len(set(own)) == 1 else digest(" ".join(own)) for name, own in values.items()}


def of_training(scenario: Scenario, detection_m: float) -> dict[str, Any]:
    """Return what a checkpoint keeps: `signals` and `files`.

    Raises:
        UserError: when a file cannot be read.
    """
    return {"signals": of_signals(road_network.of(scenario, detection_m)), "files": of_files(scenario)}


def tags(*scenarios: Scenario) -> dict[str, str]:
    """Return the tags of a run: `of_scenario` as `scenario.network`, `scenario.demand` and so on.

    Raises:
        UserError: when a file cannot be read.
    """
    return {f"{PREFIX}{name}": value for name, value in of_scenario(*scenarios).items()}


def signal_differences(before: Signals, here: Signals, parts: Sequence[str] = PARTS) -> list[str]:
    """Return how signals differ, a phrase each: those that are gone or new, then the first part that differs of each other."""
    gone, new = [name for name in before if name not in here], [name for name in here if name not in before]
    phrases = [f"signals that are {what}: {listed(names)}" for what, names in (("gone", gone), ("new", new)) if names]
    for name in (name for name in before if name in here):
        of_both = {part: [signals[name].get(part, []) for signals in (before, here)] for part in parts}
        part = next((part for part, (old, new) in of_both.items() if old != new), None)
        if part is not None:
            phrases.append(f"signal {name}: {_difference(part, *of_both[part])}")
    return phrases


def training_differences(before: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return how the results of `of_training` differ, a phrase each."""
    both = {name: [files["files"].get(name, "none") for files in (before, here)] for name in before["files"] | here["files"]}
    files = [f"{name} {old} (here {new})" for name, (old, new) in both.items() if old != new]
    return signal_differences(before["signals"], here["signals"]) + files


def shortened(phrases: Sequence[str]) -> str:
    """Return the first phrases, and how many more there are."""
    more = f"; {len(phrases) - NAMED} more differ" if len(phrases) > NAMED else ""
    return "; ".join(phrases[:NAMED]) + more


def _difference(part: str, before: Sequence[str], here: Sequence[str]) -> str:
    """Return how two lists differ. Phases are named by their numbers, all else by itself."""
    if sorted(before) == sorted(here):
        moved = [i for i, entry in enumerate(before) if here[i] != entry]
        names = [str(i) if part == "phases" else before[i] for i in moved]
        if len(moved) == 2:
            return f"{part} {' and '.join(names)} have changed places"
        if part == "phases":
            return f"phases {', '.join(names)} are here {', '.join(str(here.index(before[i])) for i in moved)}"
        return f"{part} stand in another order, such as {listed(names)}"
    labelled = [[f"{i} {entry}" if part == "phases" else entry for i, entry in enumerate(entries)] for entries in (before, here)]
    gone, new = ([entry for entry in own if entry not in other] for own, other in (labelled, labelled[::-1]))
    return f"{part} {listed(gone) or 'none'} {'is' if len(gone) < 2 else 'are'} gone, {listed(new) or 'none'} new"


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _digest(paths: Sequence[Path]) -> str:
    """Return one digest of several files in their order; `none` of no file."""
    if not paths:
        return "none"
    return hashlib.sha256("".join(_file_digest(path, path.stat().st_mtime_ns) for path in paths).encode()).hexdigest()[:16]


@functools.cache
def _file_digest(path: Path, _changed_ns: int) -> str:
    """Return the digest of an XML file's elements and attributes, those of included files too; compressed or not."""
    digest, parser = hashlib.sha256(), expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "include":
            digest.update(_digest([path.parent / attributes.get("href", "")]).encode())
        else:
            digest.update(repr((tag, sorted(attributes.items()))).encode())

    parser.StartElementHandler, parser.EndElementHandler = start, lambda _: digest.update(b"/")
    try:
        with open_xml(path) as file:
            parser.ParseFile(file)
    except (expat.ExpatError, OSError, EOFError, zlib.error, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as XML ({error}); make the file again or correct that line") from None
    return digest.hexdigest()


@functools.cache
def _sumo_options(*fields: Any) -> str:
    """Return SUMO's options that concern the traffic, as `--name value`; the fields are those of `TRAFFIC_FIELDS`."""
    nothing = Scenario("", Path(), (), 0, 1, "", "", **dict(zip(TRAFFIC_FIELDS, fields, strict=True)))
    options = f" {' '.join(engine.command(nothing, 0, Path()))}".split(" --")[1:]
    return " ".join(f"--{option}" for option in options if not any(part in f"--{option} " for part in NOT_TRAFFIC))
