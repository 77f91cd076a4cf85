"""The detectors that a city has: the field `detectors` of a scenario.yaml, and the stretches of lanes that they see.

Without the field, detectors see every vehicle within `detection_m` of a stop line.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from xml.etree.ElementTree import Element

import numpy as np

from tsc_marl.errors import UserError, unknown
from tsc_marl.sim import xml_files
from tsc_marl.sim.detector_coverage import DetectorCoverage
from tsc_marl.sim.signal_limits import ALL

LOOPS, AREAS = ("inductionLoop", "e1Detector"), ("laneAreaDetector", "e2Detector")
"""SUMO's elements for loops and for stretches of lanes."""
TAGS = (*LOOPS, *AREAS)
VEHICLE_M = 5.0
"""Length of a vehicle: so far beyond a loop is the front of the last one that is still on it."""
FIELDS = ("files", "cameras")


@dataclass(frozen=True)
class CityDetectors:
    """What a scenario says of its detectors."""

    files: tuple[Path, ...] = ()
    """SUMO additional files with loops (E1) and lane areas (E2)."""
    cameras: tuple[tuple[str, float], ...] = ()
    """How far upstream of the stop line a camera sees [m], by signal or for `all`."""


def checked(given: Any, path: Path, resolve: Callable[[str], Path]) -> CityDetectors:
    """Return the field of a scenario.

    Args:
        given: what YAML reads.
        path: file of the scenario.
        resolve: returns the path of a file that the scenario names.

    Raises:
        UserError: for an unknown key, a value of the wrong kind, or nothing at all.
    """
    if not isinstance(given, Mapping) or not given:
        raise UserError(f"{path}: detectors must have files or cameras, or be left out; got {given!r}")
    for key in given:
        if key not in FIELDS:
            raise UserError(f"{path}: detectors: {unknown('field', str(key), FIELDS)}")
    files, cameras = given.get("files", []), given.get("cameras", {})
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise UserError(f"{path}: detectors.files must be a list of SUMO additional files; got {files!r}")
    if not isinstance(cameras, Mapping) or not all(isinstance(name, str) for name in cameras):
        raise UserError(f"{path}: detectors.cameras must be ranges in metres by signal, or for {ALL}; got {cameras!r}")
    for name, range_m in cameras.items():
        if isinstance(range_m, bool) or not isinstance(range_m, int | float) or not 0 < range_m < float("inf"):
            raise UserError(f"{path}: detectors.cameras of {name} must be a range above 0 m; got {range_m!r}")
    return CityDetectors(tuple(map(resolve, files)), tuple((name, float(range_m)) for name, range_m in sorted(cameras.items())))


class OnLanes(Protocol):
    """Vehicles, M of them."""

    @property
    def lane(self) -> np.ndarray: ...
    @property
    def pos_m(self) -> np.ndarray: ...


@dataclass(frozen=True)
class SeenRoad:
    """The stretches of L lanes that detectors see, K of them at most on a lane; padding sees nothing."""

    from_m: np.ndarray
    """[L, K] from the upstream end of the lane; infinite for padding."""
    to_m: np.ndarray
    """[L, K]"""

    @functools.cached_property
    def blind(self) -> np.ndarray:
        """[L] bool: lanes without a detector."""
        return np.all(np.isinf(self.from_m), axis=1)

    def reached(self, coverage: DetectorCoverage) -> np.ndarray:
        """Return, per signal lane, whether a detector lies on the way to its stop line: [S] bool."""
        leads = np.isfinite(coverage.offset_m) & ~self.blind[:, None]
        return np.isin(np.arange(coverage.slot.max() + 1), coverage.slot[leads])

    def sees(self, vehicles: OnLanes) -> np.ndarray:
        """Return [M] bool: whether the front of each vehicle is on such a stretch."""
        pos_m = vehicles.pos_m[:, None]
        return np.any((self.from_m[vehicles.lane] <= pos_m) & (pos_m <= self.to_m[vehicles.lane]), axis=1)


def seen_road(
    given: CityDetectors, lane_index: Mapping[str, int], length_m: np.ndarray, coverage: DetectorCoverage,
    signal_of_slot: Sequence[str],
) -> SeenRoad:  # fmt: skip
    """Return the stretches of the lanes of a network.

    Args:
        given: what the scenario says.
        lane_index: number of each of L lanes, by name.
        length_m: [L] of the lanes.
        coverage: the lanes that lead to stop lines.
        signal_of_slot: names of the signals of the stop lines, in the order of the coverage.

    Raises:
        UserError: for a lane or signal that the network does not have, a position that is no number, or files without a detector.
    """
    stretches = [stretch for path in given.files for stretch in _of_file(path, lane_index, length_m)]
    ranges = dict(given.cameras)
    for name in ranges.keys() - {ALL, *signal_of_slot}:
        raise UserError(f"detectors.cameras: {unknown('agent', name, sorted(set(signal_of_slot)))}")
    range_m = np.array([ranges.get(name, ranges.get(ALL, 0.0)) for name in signal_of_slot])
    begins_m = coverage.offset_m + length_m[:, None] - range_m[coverage.slot]
    for lane, column in zip(*np.nonzero(coverage.offset_m < range_m[coverage.slot]), strict=True):
        stretches.append((int(lane), max(0.0, float(begins_m[lane, column])), float(length_m[lane])))
    of_lane: list[list[tuple[float, float]]] = [[] for _ in lane_index]
    for lane, *stretch in stretches:
        of_lane[lane].append((stretch[0], stretch[1]))
    ends = np.full((2, len(of_lane), max(map(len, of_lane))), np.inf)
    for lane, own in enumerate(of_lane):
        ends[:, lane, : len(own)] = np.array(own).reshape(-1, 2).T
    return SeenRoad(*ends)


def lane_names(element: Element) -> list[str]:
    """Return the lanes of a detector."""
    return element.get("lanes", element.get("lane", "")).split()


def _of_file(path: Path, lane_index: Mapping[str, int], length_m: np.ndarray) -> Iterator[tuple[int, float, float]]:
    """Yield lane, begin and end [m] of what each detector of a file sees."""
    is_empty = True
    for element in xml_files.elements(path):
        if element.tag not in TAGS:
            continue
        is_empty, where = False, f"{path}: {element.tag} {element.get('id', '')}"
        names = lane_names(element)
        if not names:
            raise UserError(f"{where}: it has no lane; give it one")
        for name in names:
            if name not in lane_index:
                raise UserError(f"{where}: lane {name} is not in the network; correct it")
        lanes = [lane_index[name] for name in names]
        first_m, last_m = _ends(element, float(length_m[lanes[0]]), float(length_m[lanes[-1]]), len(lanes), where)
        for i, lane in enumerate(lanes):
            begin_m, end_m = first_m if i == 0 else 0.0, last_m if i == len(lanes) - 1 else float(length_m[lane])
            yield lane, begin_m, min(end_m, float(length_m[lane]))
    if is_empty:
        raise UserError(
            f"{path}: no {LOOPS[1]} or {AREAS[1]} in it; give a file with detectors, or leave it out of detectors.files"
        )


def _ends(element: Element, length_m: float, last_length_m: float, n_lanes: int, where: str) -> tuple[float, float]:
    """Return where a detector begins on its first lane, and ends on its last one [m]; positions below 0 count from the end."""

    def number(name: str) -> float | None:
        given = element.get(name)
        try:
            return None if given is None else float(given)
        except ValueError:
            raise UserError(f"{where}: {name} must be a number of metres; got {given!r}") from None

    pos_m, end_m, own_m = number("pos"), number("endPos"), number("length")
    if pos_m is None and (element.tag in LOOPS or end_m is None or own_m is None):
        raise UserError(f"{where}: it has no pos; say where on the lane it is [m]")
    if end_m is not None and end_m < 0:
        end_m += last_length_m
    begin_m = (end_m or 0.0) - (own_m or 0.0) if pos_m is None else pos_m + length_m * (pos_m < 0)
    if element.tag in LOOPS:
        end_m = begin_m + (own_m or 0.0) + VEHICLE_M
    elif end_m is None and own_m is None:
        raise UserError(f"{where}: it has neither endPos nor length; give one of them [m]")
    elif end_m is None:
        end_m = begin_m + (own_m or 0.0)
    if not 0 <= begin_m <= length_m or (n_lanes == 1 and end_m < begin_m):
        raise UserError(f"{where}: it lies outside its lane of {length_m:.1f} m; correct pos")
    return begin_m, end_m
