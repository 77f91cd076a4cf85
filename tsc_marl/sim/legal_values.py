"""Which values of SUMO's input files make sense: one table for network, route and additional files."""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from tsc_marl.errors import UserError

UNTIMED = ("triggered", "containerTriggered", "split", "now")
"""Departures that no clock tells: a passenger boards, a train is parted."""
UNSAID = ("begin", *UNTIMED)
DAY_S = 86400.0
ABOVE_0 = sys.float_info.min
FAR_M = 1e9
"""No road network is longer, and no speed higher."""
FAR_S = 9e15
"""The end of SUMO's clock."""
MOST_PER_S, MOST_AT_ONCE = 100.0, 10000
"""More vehicles of one flow no edge takes in."""
TIME = "a time in seconds or h:m:s"


def seconds(text: str) -> float:
    """Return a time of SUMO [s], given in seconds, as h:m:s or as d:h:m:s.

    Raises:
        ValueError: for any other text.
    """
    parts = [float(part) for part in text.split(":")]
    if len(parts) not in (1, 3, 4):
        raise ValueError
    return sum(part * unit for part, unit in zip(reversed(parts), (1, 60, 3600, DAY_S), strict=False))


def per_second(attribute: str, text: str) -> float:
    """Return how many vehicles a second an attribute of a flow stands for, on average.

    Raises:
        ValueError: when it is no number.
    """
    if text.startswith("exp("):
        return float(text[4:-1])
    if attribute == "period":
        return 1 / seconds(text)
    return float(text) / (1 if attribute == "probability" else 3600)


@dataclass(frozen=True)
class Legal:
    """The legal values of an attribute."""

    wanted: str
    least: float = -FAR_M
    most: float = FAR_M
    parse: Callable[[str], float] = float
    words: tuple[str, ...] | None = ()
    """Words that stand for a value; None leaves every word to SUMO."""
    too_much: str = ""
    """What is wanted of a value that is too large, where that is said apart."""

    def refusal(self, text: str) -> str:
        """Return what is wanted instead of a value; empty where the value is legal."""
        if self.words and text in self.words:
            return ""
        try:
            value = self.parse(text)
        except (ValueError, ZeroDivisionError):
            return "" if self.words is None else self.wanted
        if value > self.most and self.too_much:
            return self.too_much
        return "" if self.least <= value <= self.most else self.wanted


def _time(wanted: str, least: float, words: tuple[str, ...] = ()) -> Legal:
    return Legal(wanted, least, FAR_S, seconds, words)


def _rate(attribute: str, wanted: str) -> Legal:
    return Legal(wanted, ABOVE_0, MOST_PER_S, lambda text: per_second(attribute, text), too_much="at most 100 vehicles a second")


SPEED = Legal("a speed above 0 [m/s]", ABOVE_0)
LENGTH = Legal("a length of at least 0 [m]", 0.0)
FINITE = Legal("finite", words=None)
DURATION, BOUND = _time(f"{TIME}, above 0", ABOVE_0), _time(f"{TIME}, at least 0", 0.0)
DEPART, END = _time(TIME, 0.0, UNSAID), _time(f"{TIME}, from begin on", 0.0)
NUMBER = Legal("a whole number", 0.0, math.inf, int)
_EXPONENTIAL = _rate("period", "exp(rate) with a rate above 0")
_PERIOD = _rate("period", f"{TIME}, above 0, or exp(rate)")
_PER_HOUR = ("vehsPerHour", "perHour", "personsPerHour", "containersPerHour")
RATES = {
    "period": _PERIOD,
    **{name: _rate(name, "above 0") for name in _PER_HOUR},
    "probability": Legal("above 0 and at most 1", ABOVE_0, 1.0),
}
"""Attributes that say how often a vehicle, person or container of a flow departs."""
_FLOW = {"begin": DEPART, "end": END, "number": NUMBER, **RATES}
_NUMBERS = ("departPos", "departSpeed", "arrivalPos", "arrivalSpeed", "departPosLat", "arrivalPosLat", "speedFactor")
_VEHICLE = {"depart": DEPART, **dict.fromkeys(_NUMBERS, FINITE)}
_TYPE = (
    "minGap", "maxSpeed", "desiredMaxSpeed", "accel", "decel", "emergencyDecel", "apparentDecel", "sigma", "tau", "width",
    "height", "mass", "speedFactor", "speedDev", "probability", "impatience", "actionStepLength", "startupDelay", "minGapLat",
)  # fmt: skip
TABLE: Mapping[str, Mapping[str, Legal]] = {
    "lane": {"speed": SPEED, "length": LENGTH, "width": LENGTH},
    "junction": dict.fromkeys("xyz", Legal("a finite number [m]")),
    "tlLogic": {"offset": _time(f"{TIME}, or begin", -FAR_S, ("begin",))},
    "phase": {"duration": DURATION, "minDur": BOUND, "maxDur": BOUND},
    "vType": {"length": Legal("above 0 and at most 1000 [m]", ABOVE_0, 1000.0), **dict.fromkeys(_TYPE, FINITE)},
    "vehicle": _VEHICLE,
    "trip": _VEHICLE,
    "person": {"depart": DEPART},
    "container": {"depart": DEPART},
    "flow": {**_FLOW, **dict.fromkeys(_NUMBERS, FINITE)},
    "personFlow": _FLOW,
    "containerFlow": _FLOW,
    "stop": {"duration": BOUND, "until": BOUND, "startPos": FINITE, "endPos": FINITE},
    "busStop": {"startPos": FINITE, "endPos": FINITE},
    "parkingArea": {"startPos": FINITE, "endPos": FINITE},
}
"""Per element, the attributes that are checked. What is not in it SUMO itself reads and refuses."""
ORDERED = {"phase": ("minDur", "maxDur"), "flow": ("begin", "end"), "personFlow": ("begin", "end")}
"""Pairs of times of which the first is at most the second."""


def check(tag: str, attributes: Mapping[str, str], path: Path, owner: str = "") -> None:
    """Refuse an element of a SUMO file with a value that cannot be.

    Args:
        tag: the element's name.
        attributes: its attributes.
        path: the file.
        owner: what names an element that has no id.

    Raises:
        UserError: with file, element, id, attribute, value and what is legal.
    """
    rules = TABLE.get(tag)
    if rules is None:
        return
    for name, text in attributes.items():
        legal = rules.get(name)
        if legal is _PERIOD and text.startswith("exp("):
            legal = _EXPONENTIAL
        if legal and (wanted := legal.refusal(text)):
            raise illegal(tag, attributes, path, name, wanted, owner)
    if tag in ORDERED:
        _check_order(tag, attributes, path, owner)


def _check_order(tag: str, attributes: Mapping[str, str], path: Path, owner: str) -> None:
    first, last = ORDERED[tag]
    times = [seconds(attributes[name]) for name in (first, last) if attributes.get(name, "begin") not in UNSAID]
    if len(times) == 2 and times[0] > times[1]:
        wanted = END.wanted if last == "end" else f"{TIME}, at least {first} {attributes[first]}"
        raise illegal(tag, attributes, path, last, wanted, owner)
    if "number" in attributes and tag == "flow" and not RATES.keys() & attributes.keys():
        lasts_s = seconds(attributes.get("end", f"{DAY_S}"))
        if int(attributes["number"]) > max(MOST_AT_ONCE, MOST_PER_S * lasts_s):
            raise illegal(tag, attributes, path, "number", "at most 100 vehicles a second", owner)


def illegal(tag: str, attributes: Mapping[str, str], path: Path, attribute: str, wanted: str, owner: str = "") -> UserError:
    """Return the error of an attribute with a value that cannot be."""
    what = f"{tag} {attributes.get('id', '') or owner}".strip()
    return UserError(f"{path}: {what}: {attribute} must be {wanted}; got {attributes.get(attribute, '')!r}")


def check_tree(element: Element, path: Path) -> None:
    """Refuse a top-level element of a route or additional file with a value that cannot be, in it or below.

    The flows of calibrators have rules of their own.

    Raises:
        UserError: as `check` does.
    """
    check(element.tag, element.attrib, path)
    if len(element):
        owner = f"of {element.tag} {element.get('id', '')}".strip()
        for below in element.iter():
            if below is not element and below.tag != "flow":
                check(below.tag, below.attrib, path, owner)
