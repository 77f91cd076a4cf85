"""How a movement, an approach or a signal was served in an episode: delay, level of service, queue, use of capacity."""

import csv
import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

LIMITS_S = (10.0, 20.0, 35.0, 55.0, 80.0)
"""Largest control delay of the levels A to E, from the Highway Capacity Manual for signals."""
LEVELS = "ABCDEF"
NONE = "–"
"""Level of what no vehicle came to."""
ALL = "all"
"""Turn of an approach, approach of a signal."""
BEHIND = "behind"
"""Approach of the row with the time lost behind the last signals."""


@dataclass(frozen=True)
class Service:
    """Service of one movement, of an approach over all its turns, or of a signal over all its approaches."""

    signal: str
    road: str
    """The edge that ends at the stop line."""
    street: str
    """Name of that road; empty where the file has none."""
    approach: str
    """Where its traffic comes from, as a direction of the compass."""
    turn: str
    vehicles: int
    """Vehicles that passed."""
    unserved: int
    """Vehicles on their way to the stop line when the window ends, those never inserted too."""
    lost_s: float
    """Time that all of them lost [veh·s]."""
    queue_mean: float = math.nan
    """Mean over the decisions of vehicles that halt or wait to be inserted; the next two likewise [veh]."""
    queue_p95: float = math.nan
    queue_max: float = math.nan
    storage_veh: float = math.nan
    """Room on its lanes."""
    capacity_veh_h: float = math.nan
    """Of its lane group; nan of an approach."""
    v_c: float = math.nan
    """Vehicles that came over capacity, both of the lane group; of an approach the largest."""

    @property
    def delay_s(self) -> float:
        """Control delay per vehicle that passed; infinite where vehicles came and none did."""
        return self.lost_s / self.vehicles if self.vehicles else math.inf if self.lost_s >= 1 else 0.0

    @property
    def came(self) -> bool:
        """Whether a vehicle passed, or came and could not."""
        return self.vehicles > 0 or math.isinf(self.delay_s)

    @property
    def level(self) -> str:
        """The level, A to F; `NONE` where no vehicle came."""
        return level(self.delay_s) if self.came else NONE


NAMES = [field.name for field in fields(Service)]
MEASURED = NAMES.index("lost_s") + 1
COLUMNS = (*NAMES[:MEASURED], "delay_s", "level", *NAMES[MEASURED:])
"""Of the file."""


def level(delay_s: float) -> str:
    """Return the level of service of a control delay [s].

    >>> [level(seconds) for seconds in (0.0, 10.0, 10.1, 79.9, 80.1)]
    ['A', 'A', 'B', 'E', 'F']
    """
    return LEVELS[int(np.searchsorted(LIMITS_S, delay_s))]


def together(signal: str, rows: Iterable[Service]) -> Service:
    """Return the service of a signal from that of its approaches; queues and capacities have no sum."""
    vehicles, unserved, lost_s = (
        sum(column) for column in zip(*((row.vehicles, row.unserved, row.lost_s) for row in rows), strict=True)
    )
    return Service(signal, "", "", ALL, ALL, vehicles, unserved, lost_s)


def file_of(out: Path, seed: int) -> Path:
    """Return the file of an episode's movements and approaches in the folder of its files."""
    return out / f"service_{seed}.csv"


def write(path: Path, rows: Iterable[Service]) -> None:
    """Write a row for each approach, and for each of its movements; what is not defined is empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            measured = ("", "") if row.approach == BEHIND else (f"{row.delay_s:.2f}", row.level)
            texts = [_text(value) for value in astuple(row)]
            writer.writerow([*texts[:MEASURED], *measured, *texts[MEASURED:]])


def _text(value: str | float) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.2f}"
    return str(value)


def read(path: Path) -> list[Service]:
    """Return the rows of a file of `write`."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [Service(**{field.name: _value(field.type, row[field.name]) for field in fields(Service)}) for row in rows]


def _value(kind: Any, text: str) -> Any:
    if kind is float:
        return float(text or "nan")
    return int(text) if kind is int else text
