"""What a person sees of a run: the progress line, the table, the learning curve."""

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from tsc_marl.sim import roadnet
from tsc_marl.sim.scenario import Scenario, scheduled

Figures = Mapping[str, float | int]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean (percentile, 10 000 resamples, fixed seed).

    With fewer than two values there is none: (nan, nan).
    """
    if len(values) < 2:
        return float("nan"), float("nan")
    sample = np.random.default_rng(0).choice(np.asarray(values), size=(10_000, len(values)))
    low, high = np.percentile(sample.mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def results_table(title: str, results: Mapping[str, Sequence[Figures]], training: Mapping[str, tuple[int, float]]) -> Table:
    """Return the table of an evaluation: a row per controller, best delay first.

    Args:
        title: above the table.
        results: per controller the figures of each evaluation episode.
        training: per trained policy its episodes and minutes of training.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("controller", overflow="fold")
    for column in (
        "delay [s]", "95 %", "median", "travel [s]", "waiting [s]", "queue [veh]", "arrived", "never ins.", "episodes", "minutes",
    ):  # fmt: skip
        table.add_column(column, justify="right", no_wrap=True)
    for name in sorted(results, key=lambda key: float(np.mean([f["delay"] for f in results[key]]))):
        rows = results[name]
        delay = [f["delay"] for f in rows]
        low, high = interval(delay)
        mean = {key: float(np.mean([f[key] for f in rows])) for key in rows[0]}
        episodes, minutes = training.get(name, (0, 0.0))
        table.add_row(
            name, f"{mean['delay']:.1f}", f"{low:.1f} .. {high:.1f}" if low == low else "-", f"{np.median(delay):.1f}",
            f"{mean['travel_time']:.1f}", f"{mean['waiting']:.1f}", f"{mean['queue']:.2f}",
            f"{mean['arrived']:.0f} of {mean['scheduled']:.0f}", f"{mean['never_inserted']:.1f}",
            str(episodes) if episodes else "-", f"{minutes:.1f}" if episodes else "-",
        )  # fmt: skip
    return table


def networks_table(scenarios: Sequence[Scenario]) -> Table:
    """Return the table of the road networks."""
    table = Table(title="road networks", title_justify="left")
    table.add_column("network", no_wrap=True)
    for column in ("signals", "phases", "lanes", "vehicles", "window [s]"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("licence")
    table.add_column("source")
    for scenario in scenarios:
        net = roadnet.read(scenario.net)
        counts = Counter(len(signal.phases) for signal in net.signals)
        phases = ", ".join(f"{n}x{k}" for k, n in sorted(counts.items()))
        without = f" (+{len(net.fixed)} without choice)" if net.fixed else ""
        table.add_row(
            scenario.name, f"{len(net.signals)}{without}", phases, str(sum(len(signal.lanes) for signal in net.signals)),
            str(scheduled(scenario)), f"{scenario.begin_s} .. {scenario.end_s}", scenario.licence, scenario.source,
        )  # fmt: skip
    return table


def markdown(results: Mapping[str, Sequence[Figures]]) -> str:
    """Return the essence of the table as Markdown, for MLflow's description."""
    lines = ["| controller | delay [s] | 95 % | arrived | never inserted |", "|---|---|---|---|---|"]
    for name in sorted(results, key=lambda key: float(np.mean([f["delay"] for f in results[key]]))):
        delay = [f["delay"] for f in results[name]]
        low, high = interval(delay)
        within = f"{low:.2f} .. {high:.2f}" if low == low else "-"
        arrived, never = (np.mean([f[key] for f in results[name]]) for key in ("arrived", "never_inserted"))
        lines.append(f"| {name} | {np.mean(delay):.2f} | {within} | {arrived:.0f} | {never:.1f} |")
    return "\n".join(lines)


def learning_curve(path: Path, histories: Mapping[str, Sequence[Figures]], lines: Mapping[str, float], title: str) -> None:
    """Draw delay over training episodes and over minutes; `lines` are the levels of the classical controllers."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    for axis, (key, label) in zip(axes, (("episode", "training episodes"), ("minutes", "minutes of training")), strict=True):
        for i, (name, history) in enumerate(histories.items()):
            x, y = np.array([[row[key], row["delay"]] for row in history]).T
            axis.plot(x, y, color=f"C{i}", label=name, linewidth=1.3)
        for i, (name, level) in enumerate(lines.items()):
            axis.axhline(level, color="black", linestyle=("--", ":", "-.")[i % 3], linewidth=1, label=name)
        axis.set_xlabel(label)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:.0f}")
        axis.yaxis.set_minor_formatter("{x:.0f}")
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("delay per vehicle [s], all scheduled vehicles")
    axes[1].legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)


class Progress:
    """One line, rewritten in a terminal, repeated every few seconds elsewhere."""

    EVERY_S = 20.0

    def __init__(self, label: str, total: int, done: int) -> None:
        self._label, self._total, self._first = label, total, done
        self._start = self._said = time.monotonic()
        self._live = sys.stdout.isatty()

    def update(self, done: int, figures: Figures) -> None:
        """Show the figures of the last update."""
        left = (time.monotonic() - self._start) / max(1, done - self._first) * (self._total - done)
        known = [name for name in ("entropy", "epsilon") if f"policy/{name}" in figures]
        explores = f"{known[0]} {figures[f'policy/{known[0]}']:.2f}  " if known else ""
        line = (
            f"{self._label}  episode {done:4d}/{self._total}  delay {figures['delay']:7.1f} s  "
            f"reward {figures['reward']:9.0f}  {explores}"
            f"s/episode: sim {figures['seconds/simulation']:.2f} act {figures['seconds/acting']:.2f} "
            f"learn {figures['seconds/learning']:.2f}  to go {left / 60:4.1f} min"
        )
        last = done >= self._total
        if self._live:
            print(f"\r{line}", end="\n" if last else "", flush=True)
        elif last or time.monotonic() - self._said >= self.EVERY_S:
            self._said = time.monotonic()
            print(line, flush=True)


def console() -> Console:
    """Return a console wide enough for the table, also where the output is a file."""
    return Console(width=None if sys.stdout.isatty() else 150, highlight=False, markup=False)  # [s] is a unit, not markup


def say(line: str) -> None:
    """Print a line; in a terminal, over the progress line."""
    print(f"\r\x1b[2K{line}" if sys.stdout.isatty() else line, flush=True)
