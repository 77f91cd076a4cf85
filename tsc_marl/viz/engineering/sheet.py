"""What the pictures share: size, fonts, the axis of time, names."""

from typing import TYPE_CHECKING, Any

from tsc_marl.viz.plotting import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN = 6.4
"""The width of a page's text; with `DPI`, its letters can still be read on a telephone."""
DPI = 200
STYLE: Any = {
    "pdf.fonttype": 42, "font.size": 9, "axes.titlesize": 9, "legend.fontsize": 8, "axes.spines.top": False,
    "axes.spines.right": False,
}  # fmt: skip


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
