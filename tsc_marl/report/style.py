"""One style for all plots: a colour for each algorithm, safe for colour-blind readers, and the same on every network."""

from collections.abc import Iterable
from dataclasses import dataclass

from tsc_marl.tracking.colours import COLOURS, FIRST

DASHES = ("solid", "dash", "dot", "dashdot")
GREY = "#555555"
WORSE_TO_BETTER = ("#B35806", "#F1A340", "#F7F7F7", "#67A9CF", "#2166AC")
FONT = "Helvetica, Arial, sans-serif"


@dataclass(frozen=True)
class SeriesStyle:
    """Colour and dashes of one group."""

    colour: str
    dash: str

    def faint(self, alpha: float) -> str:
        """Return the colour for plotly, transparent."""
        red, green, blue = (int(self.colour[i : i + 2], 16) for i in (1, 3, 5))
        return f"rgba({red},{green},{blue},{alpha})"


def shade(count: int) -> float:
    """Return the opacity of each of `count` bands; many bands over one another do not hide the lines."""
    return 0.18 * min(1.0, 5 / count)


def series_styles(groups: Iterable[str]) -> dict[str, SeriesStyle]:
    """Return the style of each group; dashes differ too where there are more groups than colours."""
    others = sorted(set(groups) - set(FIRST))
    return {
        name: SeriesStyle(COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % 4]) for i, name in enumerate((*FIRST, *others))
    }
