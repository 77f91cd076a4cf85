"""A colour for each algorithm, the same in the report, in MLflow and in the terminal, safe for colour-blind readers."""

from tsc_marl import algos

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours of Okabe and Ito without the yellow: it is too light for a line on white."""
FIRST = ("jointq", "mappo", "mappo_ind", "ippo", "jointq_doc")
"""Algorithms with a fixed colour on every page."""


def of_first() -> dict[str, str]:
    """Return the colours of `FIRST`; they are legible on light and dark terminals."""
    return dict(zip(FIRST, COLOURS, strict=False))


def of_algorithms() -> dict[str, str]:
    """Return the colour of each algorithm; those beyond the palette have its colours in lighter shades."""
    names = (*FIRST, *(name for name in algos.available() if name not in FIRST))
    return {name: _lighter(COLOURS[i % len(COLOURS)], i // len(COLOURS)) for i, name in enumerate(names)}


def _lighter(colour: str, times: int) -> str:
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{255 - int((255 - part) * 0.6**times):02X}" for part in parts)
