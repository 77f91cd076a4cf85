"""Bounds of settings, declared beside their types: `gamma: Share = 0.98`. They stand in `--help` and are checked by `check`."""

import dataclasses
import math
import typing
from typing import Annotated, Any

import tyro
from annotated_types import Ge, Gt, Interval, Le, Lt

from tsc_marl.errors import UserError

Share = Annotated[float, Interval(ge=0, le=1), tyro.conf.arg(metavar="0..1")]
PositiveShare = Annotated[float, Interval(gt=0, le=1), tyro.conf.arg(metavar=">0..1")]
OpenShare = Annotated[float, Interval(gt=0, lt=1), tyro.conf.arg(metavar=">0..<1")]
Positive = Annotated[float, Gt(0), tyro.conf.arg(metavar=">0")]
NonNegative = Annotated[float, Ge(0), tyro.conf.arg(metavar=">=0")]
Count = Annotated[int, Ge(1), tyro.conf.arg(metavar=">=1")]
NaturalNumber = Annotated[int, Ge(0), tyro.conf.arg(metavar=">=0")]
Scale = Annotated[float, Interval(gt=0, le=5), tyro.conf.arg(metavar="0..5")]
"""Vehicles per vehicle expected."""
MaybePositiveShare = Annotated[float | None, Interval(gt=0, le=1), tyro.conf.arg(metavar="None|>0..1")]
MaybeCount = Annotated[int | None, Ge(1), tyro.conf.arg(metavar="None|>=1")]
Widths = Annotated[tuple[int, ...], tyro.conf.arg(metavar=">=1 [>=1 ...]")]
"""Widths of hidden layers, at least one layer of width 1 or more."""


def check(settings: Any, prefix: str = "") -> None:
    """Refuse values of a dataclass outside the bounds of its annotations; None is in every bound.

    Args:
        settings: instance of a dataclass.
        prefix: before the setting's name in the message, such as `algo.`.

    Raises:
        UserError: for the first value outside; nan and infinity are outside every bound of a float.
    """
    hints = typing.get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        value, hint = getattr(settings, field.name), hints[field.name]
        if hint == Widths:
            if not value or min(value) < 1:
                raise UserError(f"{prefix}{field.name} needs at least one layer, none narrower than 1; got {value}")
            continue
        entries = [(value, hint)]
        if typing.get_origin(hint) is tuple and Ellipsis not in typing.get_args(hint):
            entries = list(zip(value, typing.get_args(hint), strict=True))
        for entry, annotation in entries:
            bounds = _bounds(annotation)
            if entry is not None and bounds is not None and not _inside(entry, bounds):
                raise UserError(f"{prefix}{field.name} must {_text(bounds)}; got {value}")


def _bounds(hint: Any) -> Interval | None:
    """Return the bounds of an annotation, those of a union's part included."""
    if typing.get_origin(hint) is not Annotated:
        parts = [_bounds(part) for part in typing.get_args(hint)] if type(None) in typing.get_args(hint) else []
        return next((part for part in parts if part is not None), None)
    limits: dict[str, Any] = {}
    for mark in hint.__metadata__:
        if isinstance(mark, Ge | Gt | Le | Lt | Interval):
            limits |= {name: value for name in ("ge", "gt", "le", "lt") if (value := getattr(mark, name, None)) is not None}
    return Interval(**limits) if limits else None


def _inside(value: Any, bounds: Interval) -> bool:
    low = (bounds.ge is None or value >= bounds.ge) and (bounds.gt is None or value > bounds.gt)
    high = (bounds.le is None or value <= bounds.le) and (bounds.lt is None or value < bounds.lt)
    return math.isfinite(value) and low and high


def _text(bounds: Interval) -> str:
    low = bounds.ge if bounds.ge is not None else bounds.gt
    high = bounds.le if bounds.le is not None else bounds.lt
    if low is not None and high is not None:
        return f"lie in {'[' if bounds.ge is not None else '('}{low}, {high}{']' if bounds.le is not None else ')'}"
    if bounds.ge is not None:
        return f"be at least {low}" if low else "not be negative"
    return f"be above {low} and finite" if low else "be positive and finite"


def check_list(name: str, values: tuple[Any, ...]) -> None:
    """Refuse an empty list, and entries given twice."""
    if not values or len(set(values)) < len(values):
        raise UserError(f"{name} needs at least one entry and none twice; got {' '.join(map(str, values)) or 'none'}")
