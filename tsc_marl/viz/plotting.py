"""Figures of matplotlib that need no display and leave the state of pyplot, and its backend, as they are."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
