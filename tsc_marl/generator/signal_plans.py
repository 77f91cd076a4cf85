"""Which program each signal of a generated network has: one of SUMO's kinds, or phases of compatible movements."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import sumolib

from tsc_marl.generator import phase_sets, sumo_programs
from tsc_marl.generator.layouts import Rng
from tsc_marl.generator.recipes import PLANS, Recipe

NETCONVERT = {
    "permissive": {"tls.left-green.time": "0", "tls.minor-left.max-speed": "100"},
    "protected_permissive": {"tls.left-green.time": "6", "tls.minor-left.max-speed": "100"},
    "protected": {"tls.left-green.time": "6", "tls.minor-left.max-speed": "0"},
    "split": {"tls.layout": "incoming"},
}
"""Options by kind of plan. Plans of pairs are ours (`phase_sets`)."""


def with_choice(options: Mapping[str, str], path: Path) -> set[str]:
    """Return the signals at which traffic crosses, so that there are two phases; `options` are netconvert's.

    Raises:
        UserError: when netconvert refuses the files.
    """
    programs = _programs("permissive", options, path)
    return {name for name, program in programs.items() if len(_greens(program)) > 1}


def write(options: Mapping[str, str], signals: Sequence[str], recipe: Recipe, rng: Rng, path: Path) -> None:
    """Write the network file, a drawn kind of plan at each signal. A kind that is unsafe there gives way to pairs.

    Raises:
        UserError: when netconvert refuses the files.
    """
    kinds = [PLANS[kind] for kind in rng.choice(len(PLANS), len(signals), p=recipe.plans).tolist()]
    made = {kind: _programs(kind, options, path) for kind in reversed(NETCONVERT) if kind in (*kinds, "permissive")}
    net, root = sumolib.net.readNet(str(path)), ElementTree.parse(path).getroot()
    place = {element.get("id"): k for k, element in enumerate(root) if element.tag == "tlLogic"}
    junctions = {junction.get("id"): junction for junction in root.iter("junction")}
    for signal, kind in zip(signals, kinds, strict=True):
        links = phase_sets.junction_links(net.getNode(signal), junctions[signal])
        states = phase_sets.phases(links, recipe.most_phases, recipe.right_on_red, rng)
        choices = {choice: programs[signal] for choice, programs in made.items()}
        choices["pairs"] = phase_sets.program(signal, states, int(rng.integers(12, 31)))
        for choice in (kind, "pairs", "permissive"):
            greens = _greens(choices[choice])
            if len(greens) > 1 and phase_sets.is_safe(links, greens):
                root[place[signal]] = choices[choice]
                break
    sumo_programs.write(root, path)


def _programs(kind: str, options: Mapping[str, str], path: Path) -> dict[str, ElementTree.Element]:
    """Write the network file with one kind of plan at all signals, and return its programs."""
    sumo_programs.call("netconvert", {**options, **NETCONVERT[kind], "output-file": str(path), "no-warnings": "true"})
    return {program.attrib["id"]: program for program in ElementTree.parse(path).iter("tlLogic")}


def _greens(program: ElementTree.Element) -> list[str]:
    """Return the different phases without yellow."""
    states = [phase.attrib["state"] for phase in program.iter("phase")]
    return list(dict.fromkeys(state for state in states if "y" not in state and set("Gg") & set(state)))
