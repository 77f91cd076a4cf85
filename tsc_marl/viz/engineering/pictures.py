"""All pictures of one seed under several policies, with their numbers as files."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tsc_marl.console import shortened
from tsc_marl.paths import file_name
from tsc_marl.rollout.task import Task
from tsc_marl.sim.service import ALL, file_of, read
from tsc_marl.viz import approach_delay
from tsc_marl.viz.engineering import corridor, played, queues, service, splits, time_space
from tsc_marl.viz.engineering.sheet import DPI, STYLE
from tsc_marl.viz.engineering.splits import Split

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = ("time_space", "splits", "queues", "level_of_service")
"""Files of the pictures, without a suffix."""
SHADES = 256
"""Colours of a PNG."""


def draw(
    folder: Path, task: Task, files: Path, algorithms: Mapping[str, str], seed: int, baseline: str, signals: Sequence[str] = ()
) -> list[Path]:  # fmt: skip
    """Draw the pictures of `NAMES` as PNG and PDF; write splits as CSV.

    Args:
        folder: for the pictures.
        task: network and conditions.
        files: folder with SUMO's files of each policy, named by `file_name`, played with their trajectories.
        algorithms: by policy, its algorithm or controller.
        seed: SUMO seed of the episodes.
        baseline: the policy before the others in the table; the first where it is not there.
        signals: the corridor; none for the busiest.

    Returns the files, pictures first.

    Raises:
        UserError: for a corridor that is none.
    """
    import matplotlib as mpl

    scenario, net = task.scenario, task.net()
    of, duration_s = approach_delay.approaches(scenario, net), scenario.duration_s
    order = sorted(algorithms, key=lambda name: name != baseline)
    episodes = {name: played.read(files / file_name(name), seed, net, of, scenario.begin_s, duration_s) for name in order}
    first = order[0]
    way = corridor.along(scenario, net, signals) if signals else corridor.busiest(scenario, net, episodes[first].files.paths)
    algorithms = {name: algorithms[name] for name in order}
    names, where = [signal.name for signal in net.signals], f"{task.network}, seed {seed}"
    split = {
        name: [
            splits.split(light, signal.phases, duration_s)
            for light, signal in zip(episode.files.lights, net.signals, strict=True)
        ]
        for name, episode in episodes.items()
    }  # fmt: skip
    rows = {name: service.by_signal(read(file_of(files / file_name(name), seed))) for name in order}
    passed = {
        name: max(row.vehicles for some in rows.values() for row in some if (row.signal, row.approach) == (name, ALL))
        for name in names
    }
    side = {row.road: row.approach for row in rows[first]}
    approaches = [
        f"{shortened(names[i], 16)}: {side[edge]}, {shortened(edge, 20)}" for edge, i in zip(of.edges, of.signal, strict=True)
    ]
    with mpl.rc_context(STYLE):
        figures = (
            time_space.draw(way, net, episodes, f"{where}: time-space diagram", duration_s),
            splits.draw(net.signals, np.array([passed[name] for name in names]), split, f"{where}: splits and cycles"),
            queues.draw(
                approaches, episodes, algorithms, f"{where}: queues, the longest of each {queues.interval_s(duration_s)} s"
            ),
            service.draw(rows, f"{where}: control delay and level of service (LOS)"),
        )
        pictures = [path for name, figure in zip(NAMES, figures, strict=True) for path in _save(folder / name, figure)]
    return [*pictures, _write_splits(folder / "splits.csv", names, split)]


def _save(stem: Path, figure: "Figure") -> list[Path]:
    from PIL import Image

    paths = [stem.with_suffix(suffix) for suffix in (".png", ".pdf")]
    for path in paths:
        figure.savefig(path, dpi=DPI)
    with Image.open(paths[0]) as picture:  # a quarter of the bytes
        picture.convert("RGB").quantize(SHADES).save(paths[0], optimize=True)
    return paths


def _write_splits(path: Path, names: Sequence[str], split: Mapping[str, Sequence[Split]]) -> Path:
    """Write a row for each policy, signal and phase, with the signal's cycles beside it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("policy", "signal", "phase", "green_share", "change_share", "cycles", "cycle_mean_s", "cycle_max_s"))
        for policy, of_policy in split.items():
            for name, of in zip(names, of_policy, strict=True):
                cycles = (len(of.cycles_s), f"{of.cycles_s.mean():.1f}", of.cycles_s.max()) if len(of.cycles_s) else (0, "", "")
                writer.writerows((policy, name, p, f"{x:.4f}", f"{of.change:.4f}", *cycles) for p, x in enumerate(of.share))
    return path
