"""What a person sees of a run: the progress line, the table, the learning curve."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from tsc_marl.sim import road_network
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


def paired(rows: Sequence[Figures], others: Sequence[Figures], figure: str = "delay") -> tuple[float, float, float]:
    """Return the mean difference of a figure to another controller's on the same seeds, with its 95 % bootstrap interval."""
    base = {row["seed"]: row[figure] for row in others}
    differences = [row[figure] - base[row["seed"]] for row in rows if row["seed"] in base]
    if not differences:
        return float("nan"), float("nan"), float("nan")
    return float(np.mean(differences)), *interval(differences)


COLUMNS = {"p95": ("delay_p95", ".0f"), "worst": ("worst_approach", ".0f"), "stops": ("stops", ".2f"), "queue": ("queue", ".2f")}
"""Beside the delay: figures of `sim.metrics`."""
MINOR = ("worst", "queue", "stops", "p95", "minutes", "median", "arrived")
"""Columns of the results that a narrow terminal can do without, the first of them first."""


def results_table(
    title: str, results: Mapping[str, Sequence[Figures]], training: Mapping[str, tuple[int, float]], baseline: str = ""
) -> Table:
    """Return the table of an evaluation: a row per controller, best delay first.

    Beside the delay stand its 95th percentile over vehicles [s], that of the worst approach [s], stops per vehicle, halting
    vehicles per signal [veh], and the vehicles that arrived and that were never inserted.

    Args:
        title: above the table.
        results: per controller the figures of each evaluation episode.
        training: per trained policy its episodes and minutes of training.
        baseline: the controller that the others are compared with on the same seeds; none where it is not in the results.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("controller", no_wrap=True)
    against = [difference_to(baseline)] if baseline in results else []
    trained = ["minutes"] if training else []
    for column in ("delay [s]", "95 %", "median", *against, *COLUMNS, "arrived", "shut out", "gridlock", *trained):
        table.add_column(column, justify="right", no_wrap=True)
    for name in sorted(results, key=lambda key: mean(results[key], "delay")):
        rows = results[name]
        difference = [plus_minus(*paired(rows, results[baseline])) if name != baseline else "-"] if against else []
        minutes = [f"{training[name][1]:.1f}" if name in training else "-"] if trained else []
        table.add_row(
            name, f"{mean(rows, 'delay'):.1f}", between(rows), f"{np.median([f['delay'] for f in rows]):.1f}", *difference,
            *(number(mean(rows, figure), form) for figure, form in COLUMNS.values()),
            f"{mean(rows, 'arrived'):.0f} of {mean(rows, 'scheduled'):.0f}", f"{mean(rows, 'never_inserted'):.1f}",
            f"{mean(rows, 'gridlock'):.0%}", *minutes,
        )  # fmt: skip
    return table


def difference_to(baseline: str) -> str:
    """Return the name of the column of differences to a controller."""
    return f"- {baseline} [s]"


def mean(rows: Sequence[Figures], figure: str) -> float:
    """Return the mean of a figure over episodes."""
    return float(np.mean([row[figure] for row in rows]))


def between(rows: Sequence[Figures]) -> str:
    """Return the interval of the mean delay as text, `-` for a single seed."""
    return span(*interval([row["delay"] for row in rows]))


def span(low: float, high: float, form: str = ".1f") -> str:
    """Return an interval as text, `-` where there is none."""
    return f"{low:{form}} .. {high:{form}}" if low == low else "-"


def number(value: float, form: str = ".1f") -> str:
    """Return a figure as text, `-` where it is undefined (nan)."""
    return f"{value:{form}}" if value == value else "-"


def median(values: Sequence[float], form: str = ".0f") -> str:
    """Return the median of what trainings needed as text, and how many got there where not all did (infinity).

    Where fewer than half did there is no median, and only how many is told.
    """
    if not values:
        return "-"
    arrived = sum(np.isfinite(values))
    middle = float(np.median(values))
    few = f"{arrived} of {len(values)}"
    if not np.isfinite(middle):
        return few if arrived else "never"
    return f"{middle:{form}}" if arrived == len(values) else f"{middle:{form}} ({few})"


def plus_minus(value: float, low: float, high: float) -> str:
    """Return a difference with its interval as text."""
    if value != value:
        return "-"
    return f"{value:+.1f} ({low:+.1f} .. {high:+.1f})" if low == low else f"{value:+.1f}"


def stress_table(title: str, results: Mapping[str, Mapping[str, Sequence[Figures]]], calm: str) -> Table:
    """Return the table of disturbances: mean delay of each controller, and its ratio to the undisturbed one.

    Args:
        title: above the table.
        results: per disturbance and controller the figures of each episode.
        calm: the name of the undisturbed run among the disturbances.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("controller", no_wrap=True)
    for disturbance in results:
        table.add_column(f"{disturbance} [s]" if disturbance == calm else disturbance, justify="right")
    for name in sorted(results[calm], key=lambda key: mean(results[calm][key], "delay")):
        usual = mean(results[calm][name], "delay")
        cells = [mean(rows[name], "delay") if name in rows else None for rows in results.values()]
        table.add_row(name, f"{usual:.1f}", *(f"{x:.1f} ({x / usual:.2f})" if x is not None else "-" for x in cells[1:]))
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
        net = road_network.read(scenario.net)
        counts = Counter(len(signal.phases) for signal in net.signals)
        phases = ", ".join(f"{n}x{k}" for k, n in sorted(counts.items()))
        without = f" (+{len(net.fixed)} without choice)" if net.fixed else ""
        table.add_row(
            scenario.name, f"{len(net.signals)}{without}", phases, str(sum(len(signal.lanes) for signal in net.signals)),
            str(scheduled(scenario)), f"{scenario.begin_s} .. {scenario.end_s}", scenario.licence, scenario.source,
        )  # fmt: skip
    return table


def markdown(results: Mapping[str, Sequence[Figures]]) -> str:
    """Return the essence of the table as Markdown."""
    lines = ["| controller | delay [s] | 95 % | p95 [s] | stops | arrived | never inserted | gridlock |", "|---" * 8 + "|"]
    for name in sorted(results, key=lambda key: mean(results[key], "delay")):
        rows = results[name]
        lines.append(
            f"| {name} | {mean(rows, 'delay'):.1f} | {between(rows)} | {mean(rows, 'delay_p95'):.0f} | {mean(rows, 'stops'):.2f} "
            f"| {mean(rows, 'arrived'):.0f} | {mean(rows, 'never_inserted'):.1f} | {mean(rows, 'gridlock'):.0%} |"
        )
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
    axes[0].xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel("delay per vehicle [s], all scheduled vehicles")
    axes[1].legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)
