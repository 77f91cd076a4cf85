"""Metrics of one episode, from SUMO's own output files; one file is one metric and the file's name is the metric's name.

Every metric counts all vehicles scheduled in the window, those included that SUMO throws away; those of persons count all
persons. Each file is measured in every episode, a detailed one in evaluations.

A working signal holds nobody for 5 minutes (twice the longest red of timing `field`), so what is blocked is locked by vehicles
that block one another, or starved by its signal. The delay of an approach is the time lost on it and on the roads that lead to
it first (`RoadNetwork.approach`), and what vehicles that start there waited to be inserted. On edges SUMO counts time lost
against the road's limit and not, as in trips, against the vehicle's own wish: together they come to some percent more.
"""

import math
import sys
from collections.abc import Iterable
from numbers import Real
from pathlib import Path

import numpy as np

from tsc_marl import plugins
from tsc_marl.errors import UserError
from tsc_marl.sim.metrics._files import PERIOD_S, Counted, read_approaches, read_dropped, read_record
from tsc_marl.sim.metrics.base import Approach, EpisodeRecord, Metric, Persons, Trips
from tsc_marl.sim.road_network import RoadNetwork

__all__ = [
    "PATHS",
    "PERIOD_S",
    "Approach",
    "Counted",
    "EpisodeRecord",
    "Metric",
    "Persons",
    "Trips",
    "available",
    "check",
    "find",
    "label",
    "read",
    "read_approaches",
    "read_dropped",
    "read_record",
]

PATHS = "the import path package.module:Name of a Metric"
"""What a user may name beside the files."""


def available() -> list[str]:
    """Return the names of all files."""
    return plugins.available(sys.modules[__name__])


def find(name: str) -> type[Metric]:
    """Return the class of a metric: a file of this folder, or an import path `package.module:Name`.

    Raises:
        UserError: for a name without a class, or a class without a unit.
    """
    kind = plugins.find(sys.modules[__name__], name, Metric, "metric")
    if not isinstance(getattr(kind, "unit", None), str):
        raise UserError(f'metric {name}: {kind.__name__} has no unit; write unit = "s" into the class, or "-" for none')
    return kind


def check(names: Iterable[str]) -> None:
    """Import all metrics that an episode is measured by: those with a name in the list, and every file.

    Raises:
        UserError: for the first that cannot be used.
    """
    for name in (*names, *available()):
        find(name)


def label(name: str) -> str:
    """Return the name of a metric in files: in an import path, a dot stands for the colon, which MLflow does not allow."""
    return name.replace(":", ".")


def read(out: Path, seed: int, n_signals: int, network: RoadNetwork | None = None, names: Iterable[str] = ()) -> dict[str, float]:
    """Return the metrics of an episode by their labels: those of every file, and others by their import paths.

    Args:
        out: folder of SUMO's files `<kind>_<seed>.xml`.
        seed: SUMO seed.
        n_signals: number of signals with a choice.
        network: the network, where the detailed files were written; None leaves the detailed metrics out.
        names: names or import paths.

    Raises:
        UserError: for a metric that fails, or returns no number.
    """
    record = read_record(out, seed, n_signals, network)
    kinds = {label(name): find(name) for name in (*available(), *names)}
    values = {name: _measure(name, kind, record) for name, kind in kinds.items() if record.detailed or not kind.detailed}
    return {name: value for name, value in values.items() if not (kinds[name].of_some and math.isnan(value))}


def _measure(name: str, kind: type[Metric], record: EpisodeRecord) -> float:
    with plugins.blamed("metric", name, kind):
        value = kind()(record)
    if not isinstance(value, Real | np.bool_) or math.isinf(value):
        raise UserError(f"metric {name} returned {value!r}; expected a finite number, such as a float, or nan for none")
    return float(value)
