"""What controllers on the street send to the gateway, checked field by field."""

from collections.abc import Collection, Iterable
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from tsc_marl.errors import unknown

MOST_BYTES = 10_000_000
"""Longest message."""
Number = Annotated[FiniteFloat, Field(ge=0, le=1e10)]
"""Seconds of a clock that counts from 1970 on fit, milliseconds do not."""
Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


class _Part(BaseModel, extra="forbid", strict=True):
    """A part of the readings; it refuses texts for numbers, and names that it does not have."""


class LaneReading(_Part):
    """Vehicles on a lane that leads to a signal."""

    halting: Number = 0
    moving: Number = 0
    arriving: Number = 0
    speed: Share = 1
    waiting_s: Number = 0
    failed: Share = 0


class LinkReading(_Part):
    """Vehicles that will pass a link."""

    halting: Number = 0
    moving: Number = 0
    arriving: Number = 0
    near: Number = 0
    persons: Number | None = None
    """In these vehicles; None for one in each."""
    persons_near: Number | None = None


class ReceivingReading(_Part):
    """Vehicles on a lane behind a signal."""

    vehicles: Number = 0
    halting: Number = 0
    failed: Share = 0


class PriorityReading(_Part):
    """A vehicle that asks a signal for green."""

    vehicle: Annotated[str, Field(min_length=1)]
    kind: str
    link: Annotated[int, Field(ge=0)]
    distance_m: Number
    """To the stop line."""


class Readings(_Part):
    """One message: what the detectors of some signals read, and what these signals show."""

    time_s: Number
    """Time of the readings [s], on a clock of the street."""
    shown: Annotated[dict[str, str], Field(min_length=1)]
    """State of each signal that these readings are for."""
    lanes: dict[str, LaneReading] = {}
    links: dict[str, dict[str, LinkReading]] = {}
    receiving: dict[str, ReceivingReading] = {}
    priority: dict[str, list[PriorityReading]] = {}
    """By signal."""


def parse(text: bytes, recipe: dict[str, Any]) -> Readings:
    """Return the readings in a JSON text.

    Args:
        text: JSON in UTF-8.
        recipe: content of `recipe.json`, which has the signals, lanes and links.

    Raises:
        ValueError: in one sentence, for text that is no JSON, fields that are missing, unknown or out of bounds, and names or
            states that the recipe does not have.
    """
    try:
        readings = Readings.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(_sentence(error)) from None
    signals = recipe["signals"]
    _check("shown, signal", readings.shown, signals)
    _check("links, signal", readings.links, signals)
    for name, state in readings.shown.items():
        length = len(signals[name]["phases"][0]["state"])
        if len(state) != length or not state.isalpha():
            raise ValueError(f"shown.{name} must have {length} letters, one for each light; got {state[:100]!r}")
    for name, links in readings.links.items():
        _check(f"links.{name}, link", links, {str(link["link"]) for link in signals[name]["links"]})
    _check("lanes, lane", readings.lanes, {lane for plan in signals.values() for lane in plan["lanes"]})
    behind = {lane for plan in signals.values() for link in plan["links"] for lane in link["receiving"]}
    _check("receiving, lane", readings.receiving, behind)
    _check_priority(readings, recipe)
    return readings


def _check_priority(readings: Readings, recipe: dict[str, Any]) -> None:
    _check("priority, signal", readings.priority, recipe["signals"])
    kinds = recipe["priority"]["range_m"]
    for name, asked in readings.priority.items():
        if asked and not kinds:
            raise ValueError("priority: this folder gives none; leave it out, or write a folder with timing.priority")
        _check(f"priority.{name}, kind", (own.kind for own in asked), kinds)
        links = {str(link["link"]) for link in recipe["signals"][name]["links"]}
        _check(f"priority.{name}, link", (str(own.link) for own in asked), links)


def _check(kind: str, names: Iterable[str], available: Collection[str]) -> None:
    for name in names:
        if name not in available:
            raise ValueError(str(unknown(kind, name[:100], available)))


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))
    given = first["input"]
    got = f"; got {str(given)[:60]}" if isinstance(given, str | int | float) and place else ""
    return f"{place or 'the message'}: {first['msg'][0].lower()}{first['msg'][1:]}{got}"
