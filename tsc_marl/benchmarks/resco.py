"""The results page: every network and classical controller under every timing, beside published figures, as Markdown."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from tsc_marl import console, controllers
from tsc_marl.config import EVAL_SEEDS, read_timing
from tsc_marl.evaluation import tables
from tsc_marl.evaluation.evaluate import Results, load_matching_results, write_results
from tsc_marl.evaluation.session import EvaluationSession
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.task import Task
from tsc_marl.sim import scenario
from tsc_marl.viz import delay_map

NETWORKS = (
    "grid4x4", "arterial4x4", "cologne1", "cologne3", "cologne8", "ingolstadt1", "ingolstadt7", "ingolstadt21",
)  # fmt: skip
TIMINGS = ("sumo-rl", "field")
PUBLISHED = {
    "grid4x4": ("-", 34.32, 52.55, 32.95, 44.00, 46.91, 99.77),
    "arterial4x4": ("-", 820.8, 952.8, 1168, 686.6, 837.8, 654.1),
    "cologne1": (56.61, 27.81, 65.85, 26.05, 43.24, 28.74, 30.79),
    "cologne3": (46.35, 90.67, 162.3, 23.99, 24.03, 83.65, 26.86),
    "cologne8": (63.77, 21.87, 47.73, 22.06, 21.62, 60.42, 33.88),
    "ingolstadt1": (39.40, 28.32, 23.62, 21.48, 20.90, 28.31, 27.00),
    "ingolstadt7": (91.31, 80.56, 46.82, 31.19, 31.68, 48.21, 51.39),
    "ingolstadt21": (133.1, 76.32, 136.7, 59.64, 93.11, 78.16, 90.29),
}
"""RESCO (Ault and Sharon 2021), delay [s]: fixed, max wave, max pressure, then learners at their best episode: IDQN, IPPO,
MPLight, FMA2C; recomputed from the arrays in its repository."""
MAP_FILES = ("tripinfo", "edges", "pending")
"""What is kept of the first seed's episodes for the maps, SUMO's and ours."""


def run(workers: int, out: Path, page: Path) -> None:
    """Measure what is not measured yet in `out`, then write the page and its maps beside it.

    An interrupted run goes on where it was: a controller is measured again on a network only if its figures, or its folder,
    are not there.

    Raises:
        SystemExit: at the end and without a page, when episodes crashed; their controllers count as not measured.
    """
    crashed: list[str] = []
    found: dict[tuple[str, str], Results] = {}
    with Pool(workers) as pool:
        for network in NETWORKS:
            for timing in TIMINGS:
                session = EvaluationSession(pool, EVAL_SEEDS, out / timing, "fixed_time")
                found[network, timing] = _complete(session, Task(network, read_timing(timing)))
                if session.crashed:
                    crashed.append(f"{network} with timing {timing}")
    if crashed:
        raise SystemExit(f"episodes failed on {', '.join(crashed)}, as said above; the same command measures these again")
    (page.parent / "maps").mkdir(parents=True, exist_ok=True)
    for network in NETWORKS:
        figures = found[network, TIMINGS[0]]
        best_first = sorted(figures, key=lambda name: tables.mean(figures[name], "delay"))
        picture, folder = page.parent / "maps" / f"{network}.png", out / TIMINGS[0] / network
        delay_map.draw(picture, scenario.load(network), folder, {name: [EVAL_SEEDS[0]] for name in best_first})
    page.write_text(text(found))
    console.say(f"page: {page}")


def _complete(session: EvaluationSession, task: Task) -> Results:
    """Measure the controllers that are not measured yet on a network; return the figures of all."""
    folder = session.out / task.network
    figures = folder / "metrics.json"
    before = load_matching_results(figures, task, controllers.available(), session.seeds)
    known = {name: rows for name, rows in before.items() if (folder / name).exists()}
    policies = {name: ControllerPolicy(name) for name in controllers.available() if name not in known}
    if not policies:
        return known
    new: Results = {}
    try:
        new = session.measure(task, policies)  # writes its own figures over those that are known
    finally:
        known |= {name: rows for name, rows in new.items() if len(rows) == len(session.seeds)}
        write_results(figures, task, {name: known[name] for name in sorted(known)})
    for name in new:
        for path in (folder / name).iterdir():
            if path.stem not in {f"{kind}_{EVAL_SEEDS[0]}" for kind in MAP_FILES}:
                path.unlink()
    return known


INTRODUCTION = """# Classical controllers on RESCO's networks

Made by `make results` ({machine}; SUMO seeds {first} to {last}, the demand of the route files). Delay is SUMO's `timeLoss +
departDelay` in seconds per vehicle, over all vehicles scheduled in the hour; those never inserted are charged until its end.
The interval is the 95 % bootstrap interval of the mean over the seeds. p95: 95th percentile over vehicles; gridlock: share of
the seeds in which 5 vehicles or more stood on some road that none left for 5 minutes (`tsc_marl/sim/metrics.py` has every
definition). What a controller is, and what it needs to know, stands in its file in `tsc_marl/controllers/`. `fixed_time` keeps
the network's own yellow (3 to 5 s, no all-red) under both timings.

Figures called published are RESCO's (2021; decisions every 10 s, yellow 3 s, SUMO 1.9, learners at their best episode). They
leave out most of the vehicles that were never inserted.
"""


def text(found: Mapping[tuple[str, str], Results]) -> str:
    """Return the page."""
    machine = f"{platform.machine()}, Python {platform.python_version()}, SUMO {version('eclipse-sumo')}"
    parts = [INTRODUCTION.format(machine=machine, first=EVAL_SEEDS[0], last=EVAL_SEEDS[-1]), overview(found)]
    for network in NETWORKS:
        parts.append(f"## {network}\n")
        for timing in TIMINGS:
            parts += [f"Timing `{timing}`:\n", tables.markdown(found[network, timing]) + "\n"]
        parts += [published(network), f"![where time is lost on {network}, SUMO seed {EVAL_SEEDS[0]}](maps/{network}.png)\n"]
    return "\n".join(parts)


def overview(found: Mapping[tuple[str, str], Results]) -> str:
    """Return a table of mean delays, a row per controller and a column per network, for each timing."""
    parts = []
    for timing in TIMINGS:
        names = sorted({name for network in NETWORKS for name in found[network, timing]})
        lines = [f"| timing `{timing}`, delay [s] | {' | '.join(NETWORKS)} |", "|---" * (1 + len(NETWORKS)) + "|"]
        best = {network: min(tables.mean(rows, "delay") for rows in found[network, timing].values()) for network in NETWORKS}
        for name in names:
            cells = []
            for network in NETWORKS:
                rows = found[network, timing].get(name)
                mean = tables.mean(rows, "delay") if rows else None
                cells.append("-" if mean is None else f"**{mean:.1f}**" if mean == best[network] else f"{mean:.1f}")
            lines.append(f"| {name} | {' | '.join(cells)} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def published(network: str) -> str:
    """Return what RESCO published for a network."""
    names = ("fixed", "max wave", "max pressure", "IDQN", "IPPO", "MPLight", "FMA2C")
    figures = ", ".join(f"{name} {value}" for name, value in zip(names, PUBLISHED[network], strict=True) if value != "-")
    return f"Published: {figures}.\n"
