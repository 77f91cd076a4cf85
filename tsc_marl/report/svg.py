"""Figures of matplotlib as SVG within a page: text as text, colours that follow the page, a text for who does not see it."""

import html
import io
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY, PALE = "#555555", "#e6e6e6"
VARIABLES = {"#000000": "var(--ink)", GREY: "var(--soft)", PALE: "var(--line)"}
"""Colours that the page sets, for light and dark screens."""
UNUSED = r"<\?xml.*?(?=<svg)|<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->"

PLACES = r' (?:d|x|y|transform|points|width|height)="[^"]*"'
"""Attributes whose numbers are points of 1/72 inch: a tenth of one is enough."""


@dataclass(frozen=True)
class PagePanel:
    """A figure of the page."""

    figure: "Figure"
    text: str
    """What it shows, in words, with the numbers that matter."""
    hints: dict[str, str] = field(default_factory=dict)
    """Text that appears over an element of the figure, by the element's `gid`."""


def new_panel(width_in: float, height_in: float, title: str) -> "tuple[Figure, Axes]":
    """Return a figure with one pair of axes, in the style of the page."""
    from tsc_marl.viz.plotting import new_figure

    figure = new_figure(figsize=(width_in, height_in), layout="constrained")
    axis = figure.subplots()
    axis.set_title(title, loc="left", fontsize=9.5, fontweight="bold")
    axis.tick_params(labelsize=8)
    for label in (axis.xaxis.label, axis.yaxis.label):
        label.set_fontsize(8)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def inline(panel: PagePanel, name: str) -> str:
    """Return a panel as an element of HTML.

    Args:
        panel: the figure.
        name: differs from those of the other panels on the page.
    """
    import matplotlib as mpl

    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        panel.figure.savefig(file, format="svg", transparent=True)
    text = re.sub(UNUSED, "", file.getvalue(), flags=re.DOTALL)
    text = re.sub(PLACES, lambda place: re.sub(r"(\.\d)\d+", r"\1", place[0]), text)
    for gid, hint in panel.hints.items():
        text = text.replace(f'<g id="{gid}">', f"<g><title>{html.escape(hint)}</title>")
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text))
    kept = {one for pair in used for one in pair}
    text = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in kept else "", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    label = html.escape(panel.text)
    return re.sub(
        r'<svg .*?viewBox="(.*?)".*?>', rf'<svg viewBox="\1" role="img" aria-label="{label}">', text, count=1, flags=re.DOTALL
    )
