"""Learning curves and final delays on axes of matplotlib, for the page and for the files for a paper."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tsc_marl.analysis import summaries
from tsc_marl.report.network_data import NetworkResults, band
from tsc_marl.report.svg import GREY, PALE
from tsc_marl.viz.plotting import line_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Style = Mapping[str, Any]
"""Colour and dashes of a group, as matplotlib takes them."""
AXES = {"episode": "training episodes", "minutes": "minutes of training"}
DELAY = "delay [s per scheduled vehicle]"
FAR = 1.5
"""Ratio to the largest delay of a training, above which a controller is a number at the edge of the plot."""


def series_styles(networks: Iterable[NetworkResults]) -> dict[str, dict[str, Any]]:
    """Return the style of each group: the colour of its algorithm, other dashes for other settings of it."""
    groups = {name: trainings[0].algorithm for results in networks for name, trainings in results.groups.items()}
    return line_styles(dict(sorted(groups.items())))


def shade(count: int) -> float:
    """Return the opacity of each of `count` bands; many bands over one another do not hide the lines."""
    return 0.18 * min(1.0, 5 / count)


def draw_curves(axis: "Axes", results: NetworkResults, styles: Mapping[str, Style], names: Iterable[str], key: str) -> None:
    """Draw median and range of the training delay of some groups over `key` of `AXES`; dashed lines: controllers."""
    names = list(names)
    for name in names:
        x, low, middle, high = band(results.groups[name], key)
        axis.fill_between(x, low, high, color=styles[name]["color"], alpha=shade(len(names)), linewidth=0)
        axis.plot(x, middle, linewidth=1.4, label=name, **styles[name])
    for delay in results.comparison.training_thresholds.values():
        axis.axhline(delay, color=GREY, linestyle="--", linewidth=0.8)
    axis.set_xlabel(AXES[key])
    axis.set_xlim(left=0)
    axis.set_yscale("log")
    logarithmic(axis.yaxis, (1, 2, 3, 5))


def name_controllers(axis: "Axes", results: NetworkResults, inside: bool = False) -> None:
    """Write the classical controllers' names right of their lines, or over their right ends."""
    place: dict[str, Any] = {"ha": "right", "va": "bottom"} if inside else {"ha": "left", "va": "center"}
    for name, delay in results.comparison.training_thresholds.items():
        at = 1.0 if inside else 1.01
        axis.annotate(name, (at, delay), fontsize=7, color=GREY, xycoords=("axes fraction", "data"), **place)


def draw_ends(
    axis: "Axes", results: NetworkResults, styles: Mapping[str, Style], names: Iterable[str]
) -> list[tuple[float, str]]:
    """Draw the final delays of some groups and of the controllers; one far above all trainings is a number at the edge.

    Returns delay [s] and name of each row, from the bottom.
    """
    names = list(names)
    means = {name: results.summaries[name].delay for name in names} | dict(results.comparison.baseline_delays)
    order = sorted(means, key=lambda name: -means[name])
    ends = {name: summaries.delays(results.groups[name]).mean(axis=1) for name in names}
    shown = [float(end) for of in ends.values() for end in of]
    largest = FAR * max(shown)
    for y, name in enumerate(order):
        if name in ends:
            summary, colour = results.summaries[name], styles[name]["color"]
            ring = {"markerfacecolor": "none", "markeredgecolor": colour, "markersize": 4, "markeredgewidth": 0.7}
            axis.plot(ends[name], [y] * len(ends[name]), "o", **ring)
            axis.plot(summary.interval, (y, y), color=colour, linewidth=1.8)
            axis.plot(summary.delay, y, "o", color=colour, markersize=6, gid=f"end-{y}")
        elif means[name] <= largest:
            axis.plot(means[name], y, "D", color=GREY, markersize=5, gid=f"end-{y}")
        else:
            edge = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "center", "color": GREY}
            axis.annotate(f"{means[name]:.0f} →", (1, y), **edge)
    shown += [delay for delay in results.comparison.baseline_delays.values() if delay <= largest]
    if max(shown) > 4 * min(shown):
        axis.set_xscale("log")
        logarithmic(axis.xaxis, (1, 2, 5))
    axis.set_yticks(range(len(order)), order)
    axis.set_ylim(-0.6, len(order) - 0.4)
    axis.set_xlabel(DELAY)
    axis.grid(axis="x", color=PALE, which="both")
    axis.set_axisbelow(True)
    return [(means[name], name) for name in order]


def logarithmic(axis: Any, digits: tuple[int, ...]) -> None:
    """Label these multiples of each power of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
