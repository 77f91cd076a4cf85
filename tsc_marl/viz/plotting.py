"""Figures of matplotlib that need no display and leave pyplot and its backend as they are; the lines of policies in them."""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tsc_marl.tracking.colours import of_algorithms

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREYS = ("#000000", "#8a8a8a", "#5a5a5a", "#b5b5b5")
DASHES = ("-", "--", ":", "-.")


def new_figure(**options: Any) -> "Figure":
    """Return an empty figure on an Agg canvas.

    Args:
        **options: of `matplotlib.figure.Figure`, such as `figsize` (width and height in inches) and `layout`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    class PlainTextFigure(Figure):
        """A figure in which names may have dollar signs: they begin no formula, except in matplotlib's own tick labels."""

        def draw(self, renderer: Any) -> None:
            for text in self.findobj(Text):
                if isinstance(text, Text) and "mathdefault" not in text.get_text():
                    text.set_parse_math(False)
            super().draw(renderer)

    figure = PlainTextFigure(**options)
    FigureCanvasAgg(figure)
    return figure


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


def clock(second: float) -> str:
    """Return seconds from the start of the window as minutes and seconds.

    >>> clock(3154)
    '52:34'
    """
    return f"{int(second) // 60:02d}:{int(second) % 60:02d}"
