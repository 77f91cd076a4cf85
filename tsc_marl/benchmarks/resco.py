"""The page of classical results: every network, controller and timing, beside published delays, as Markdown."""

import logging
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

import jinja2

from tsc_marl import controllers
from tsc_marl.config import EVAL_SEEDS, read_timing
from tsc_marl.evaluation import statistics, tables
from tsc_marl.evaluation.evaluate import Results, load_matching_results, write_results
from tsc_marl.evaluation.session import EvaluationSession
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.task import Task
from tsc_marl.sim import scenario
from tsc_marl.viz import delay_map

log = logging.getLogger(__name__)

Case = tuple[str, str]
"""Network and timing."""

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
"""Kinds of files of the first seed's episodes that the maps need."""
TEMPLATE = "resco.md.jinja"


def run(workers: int, out: Path, page: Path) -> None:
    """Measure the controllers that have no results in `out` yet, then write the page, and its maps beside it.

    An interrupted run continues: a controller is measured again on a network only if its metrics or its folder are missing.

    Raises:
        SystemExit: at the end and without a page, when episodes crashed; their controllers count as not measured.
    """
    crashed: list[str] = []
    results: dict[Case, Results] = {}
    with Pool(workers) as pool:
        for network in NETWORKS:
            for timing in TIMINGS:
                session = EvaluationSession(pool, EVAL_SEEDS, out / timing, "fixed_time")
                results[network, timing] = _complete(session, Task(network, read_timing(timing)))
                if session.crashed:
                    crashed.append(f"{network} with timing {timing}")
    if crashed:
        raise SystemExit(f"episodes failed on {', '.join(crashed)}, as said above; the same command measures these again")
    (page.parent / "maps").mkdir(parents=True, exist_ok=True)
    for network in NETWORKS:
        of_network = results[network, TIMINGS[0]]
        best_first = sorted(of_network, key=lambda name: statistics.mean(of_network[name], "delay"))
        picture, folder = page.parent / "maps" / f"{network}.png", out / TIMINGS[0] / network
        delay_map.draw(picture, scenario.load(network), folder, {name: [EVAL_SEEDS[0]] for name in best_first})
    page.write_text(text(results), encoding="utf-8")
    log.info("page: %s", page)


def _complete(session: EvaluationSession, task: Task) -> Results:
    """Measure the controllers without results on a network; return the results of all."""
    folder = session.out / task.network
    file = folder / "metrics.json"
    before = load_matching_results(file, task, _controllers(), session.seeds)
    complete = {name: rows for name, rows in before.items() if (folder / name).exists()}
    policies = {name: ControllerPolicy(name) for name in _controllers() if name not in complete}
    if not policies:
        return complete
    new: Results = {}
    try:
        new = session.measure(task, policies)  # writes its own metrics over the complete ones
    finally:
        complete |= {name: rows for name, rows in new.items() if len(rows) == len(session.seeds)}
        write_results(file, task, {name: complete[name] for name in sorted(complete)})
    for name in new:
        for path in (folder / name).iterdir():
            if path.stem not in {f"{kind}_{EVAL_SEEDS[0]}" for kind in MAP_FILES}:
                path.unlink()
    return complete


def _controllers() -> list[str]:
    """Return the controllers to measure. RESCO's programs are static, so `own_program` would repeat `fixed_time`."""
    return [name for name in controllers.available() if name != "own_program"]


def text(results: Mapping[Case, Results]) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tsc_marl.benchmarks", "."), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template(TEMPLATE).render(
        machine=f"{platform.machine()}, Python {platform.python_version()}, SUMO {version('eclipse-sumo')}",
        seeds=EVAL_SEEDS,
        networks=NETWORKS,
        timings=TIMINGS,
        overviews={timing: [overview(results, timing, some) for some in (NETWORKS[:4], NETWORKS[4:])] for timing in TIMINGS},
        tables={case: tables.markdown(of_case) for case, of_case in results.items()},
        published={network: published(network) for network in NETWORKS},
    )


def overview(results: Mapping[Case, Results], timing: str, networks: Sequence[str]) -> str:
    """Return the table of mean delays under a timing: a column for each of some networks, the best is bold.

    Controllers are in the order of their median rank over all networks.
    """
    delays = {
        network: {name: statistics.mean(episodes, "delay") for name, episodes in results[network, timing].items()}
        for network in NETWORKS
    }

    def text_of(delay: tuple[float, bool]) -> str:
        value, best = delay
        return f"**{value:.1f}**" if best else f"{value:.1f}"

    ranks: dict[str, list[int]] = defaultdict(list)
    for of in delays.values():
        for rank, name in enumerate(sorted(of, key=lambda name: of[name])):
            ranks[name].append(rank)
    rows = [
        {"controller": name}
        | {of: (delays[of][name], delays[of][name] == min(delays[of].values())) for of in networks if name in delays[of]}
        for name in sorted(ranks, key=lambda name: (median(ranks[name]), name))
    ]
    columns = [tables.Column("controller", "controller"), *(tables.Column(name, name, text_of) for name in networks)]
    return tables.markdown_table(columns, rows)


def published(network: str) -> str:
    """Return RESCO's delays of a network."""
    names = ("fixed", "max wave", "max pressure", "IDQN", "IPPO", "MPLight", "FMA2C")
    return ", ".join(f"{name} {value}" for name, value in zip(names, PUBLISHED[network], strict=True) if value != "-")
