"""What the pictures share: size, fonts, the axis of time, names, colours of policies."""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tsc_marl.tracking.colours import of_algorithms
from tsc_marl.viz.plotting import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN = 6.4
"""The width of a page's text; with `DPI`, its letters can still be read on a telephone."""
DPI = 200
STYLE = {
    "pdf.fonttype": 42, "font.size": 9, "axes.titlesize": 9, "legend.fontsize": 8, "axes.spines.top": False,
    "axes.spines.right": False,
}  # fmt: skip
GREYS = ("#000000", "#8a8a8a", "#5a5a5a", "#b5b5b5")
DASHES = ("-", "--", ":", "-.")


def new_sheet(height_in: float, title: str, width_in: float = WIDTH_IN) -> "Figure":
    """Return an empty figure with a title."""
    figure = new_figure(figsize=(width_in, height_in), layout="constrained")
    figure.suptitle(title, fontsize=10, wrap=True)
    return figure


def clock_axis(axis: "Axes", span_s: int) -> None:
    """Label the axis of time in minutes and seconds from the start of the window."""
    step_s = next(step for step in (30, 60, 120, 300, 600, 1200, 3600, 7200, 14400) if span_s / step <= 10 or step == 14400)
    axis.xaxis.set_major_locator(_multiples(step_s))
    axis.xaxis.set_major_formatter(lambda second, _: f"{int(second) // 60}:{int(second) % 60:02d}")
    axis.set_xlabel("time from the start of the window [min:s]")


def _multiples(step_s: int) -> Any:
    from matplotlib.ticker import MultipleLocator

    return MultipleLocator(step_s)


def shortened(name: str, longest: int) -> str:
    """Return a name with at most so many characters: begin and end.

    >>> shortened("cluster_1757124350_1757124352", 12), shortened("A0", 12)
    ('cluste…24352', 'A0')
    """
    return name if len(name) <= longest else f"{name[: longest // 2]}…{name[longest // 2 + 1 - longest :]}"


def line_styles(algorithms: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the line of each policy: the colour of its algorithm, grey for controllers; dashes where that would repeat.

    Args:
        algorithms: by the name of the policy, that of its algorithm or controller.
    """
    trained, greys = of_algorithms(), itertools.cycle(GREYS)
    colours = {name: trained.get(algorithm) or next(greys) for name, algorithm in algorithms.items()}
    used: dict[str, int] = {}
    styles = {}
    for name, colour in colours.items():
        styles[name] = {"color": colour, "linestyle": DASHES[used.get(colour, 0) % len(DASHES)]}
        used[colour] = used.get(colour, 0) + 1
    return styles
