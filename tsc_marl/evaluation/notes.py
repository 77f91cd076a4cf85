"""Notes beside the tables: what SUMO warned of, and the vehicles that it threw away."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tsc_marl import controllers
from tsc_marl.evaluation.evaluate import Results
from tsc_marl.evaluation.light_check import STREET_PROGRAMS
from tsc_marl.paths import file_name
from tsc_marl.rollout.policies import Policy
from tsc_marl.rollout.task import Task
from tsc_marl.sim import messages, metrics, scenario

KINDS = {"teleports": "teleports", "collisions": "collisions", "dropped": "vehicles thrown away before they came onto the road"}
"""Metrics that are 0 in a simulation without fault, and their names in a note."""
MOST_KINDS = 6
"""Kinds of messages with a line of their own."""
FIRST = 3
"""Vehicles that a line names."""


def from_files(results: Results, folder: Path) -> list[str]:
    """Return a line for each kind of SUMO's messages, and one for the vehicles that it threw away.

    Args:
        results: of some policies.
        folder: with a subfolder of SUMO's files for each policy.
    """
    warned: dict[str, Counter[str]] = {}
    dropped: dict[str, list[str]] = {}
    for policy, episodes in results.items():
        out, seeds = folder / file_name(policy), [episode.seed for episode in episodes]
        warned[policy] = sum((messages.count(out / messages.file_name(seed)) for seed in seeds), Counter())
        dropped[policy] = [vehicle for seed in seeds for vehicle in metrics.read_dropped(out, seed)]
    kinds = sum(warned.values(), Counter()).most_common()
    lines = [_line(kind, {policy: of[kind] for policy, of in warned.items()}) for kind, _ in kinds[:MOST_KINDS]]
    if len(kinds) > MOST_KINDS:
        lines.append(f"note: SUMO reported {len(kinds) - MOST_KINDS} more kinds")
    if lines:
        lines[-1] += f"; all messages: {folder}/<controller>/{messages.file_name('<seed>')}"
    if first := list(dict.fromkeys(vehicle for names in dropped.values() for vehicle in names)):
        counts = {policy: len(names) for policy, names in dropped.items()}
        named = f"{', '.join(first[:FIRST])}{', …' if len(first) > FIRST else ''}"
        lines.append(f"{_line(KINDS['dropped'], counts)}; they count as never inserted: {named}")
    return lines


def from_metrics(results: Results) -> list[str]:
    """Return a line for each of `KINDS` that some policy has."""
    lines = []
    for metric, kind in KINDS.items():
        counts = {policy: round(sum(episode.values.get(metric, 0.0) for episode in of)) for policy, of in results.items()}
        if any(counts.values()):
            lines.append(_line(kind, counts))
    return lines


def on_programs(task: Task, policies: Mapping[str, Policy]) -> list[str]:
    """Return a line on the policies that give no priority although the timing asks for it, and one on those without limits."""
    kinds = {label: policy.name for label, policy in policies.items() if controllers.exists(policy.name)}
    without = [label for label, name in kinds.items() if controllers.find(name).sumo_controlled]
    lines, files = [], [label for label, name in kinds.items() if name in STREET_PROGRAMS]
    if (kind := task.timing.priority) != "none" and without:
        lines.append(f"note: {', '.join(without)}: programs that SUMO runs give no priority (timing.priority {kind})")
    if task.scenario.limits and files:
        lines.append(f"note: {', '.join(files)}: programs of the files do not keep the limits of {scenario.FILE}")
    return lines


def of_training(label: str, iteration: Mapping[str, float]) -> str:
    """Return a line on the episodes of an iteration of a training; empty where nothing is to be noted."""
    counts = {kind: iteration.get(f"traffic/{metric}", 0.0) for metric, kind in KINDS.items()}
    noted = ", ".join(f"{count:.1f} {kind}" for kind, count in counts.items() if count)
    return f"note: {label}: SUMO reports {noted} per episode; the metrics traffic/* have all episodes" if noted else ""


def _line(kind: str, counts: Mapping[str, int]) -> str:
    return f"note: SUMO reported {kind}: {', '.join(f'{count} in {policy}' for policy, count in counts.items() if count)}"
