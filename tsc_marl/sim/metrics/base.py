"""The base type of metrics, and the record of an episode that they are computed from."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class Trips:
    """The vehicles scheduled in the window, V of them, from SUMO's trip output; behind them those that SUMO threw away."""

    ids: Sequence[str]
    """[V]"""
    depart_lane: Sequence[str]
    """[V] empty for a vehicle never inserted."""
    depart_delay_s: np.ndarray
    """[V] wait to be inserted; of a vehicle never inserted until the end of the window."""
    time_loss_s: np.ndarray
    """[V] SUMO's timeLoss: the integral of 1 - v / v_allowed."""
    duration_s: np.ndarray
    """[V] time on the road."""
    waiting_s: np.ndarray
    """[V] time below 0.1 m/s."""
    stops: np.ndarray
    """[V] number of times that the vehicle fell below 0.1 m/s."""
    depart_s: np.ndarray
    """[V] time of insertion; negative if there was none."""
    arrival_s: np.ndarray
    """[V] time of arrival; negative if there was none, or SUMO took the vehicle off the road before."""
    transit: np.ndarray
    """[V] bool: the vehicle belongs to public transport."""
    emergency: np.ndarray
    """[V] bool: it is an emergency vehicle."""
    persons: np.ndarray
    """[V] persons in the vehicle by its class (`occupancy` of the scenario), beside those of `Persons`."""

    @property
    def inserted(self) -> np.ndarray:
        """[V] bool: the vehicle came onto the road."""
        return self.depart_s >= 0

    @property
    def arrived(self) -> np.ndarray:
        """[V] bool: the vehicle reached its destination."""
        return self.arrival_s >= 0

    @property
    def delay_s(self) -> np.ndarray:
        """[V] time lost on the road and before insertion."""
        return self.time_loss_s + self.depart_delay_s


@dataclass(frozen=True)
class Persons:
    """The persons on their way in the window, P of them, from SUMO's trip output."""

    walk_loss_s: np.ndarray
    """[P] time lost on finished walks, and the wait that an unfinished one is in when the window ends."""
    ride_loss_s: np.ndarray
    """[P] time lost in vehicles; of an unfinished ride the vehicle's loss, times its share of the vehicle's time."""
    unfinished: np.ndarray
    """[P] bool: a walk was not finished."""


@dataclass
class Approach:
    """What happened on the roads that lead to one approach of a signal."""

    vehicles: float = 0.0
    """Vehicles [veh] that meant to use it: on its busiest edge, and those never inserted."""
    time_loss_s: float = 0.0
    insertion_s: float = 0.0

    @property
    def lost_s(self) -> float:
        """Vehicle-seconds in total."""
        return self.time_loss_s + self.insertion_s

    @property
    def delay_s(self) -> float:
        """Seconds per vehicle."""
        return self.lost_s / max(self.vehicles, 1.0)


@dataclass(frozen=True)
class EpisodeRecord:
    """What SUMO's files say about one episode."""

    out: Path
    """Folder of SUMO's files `<kind>_<seed>.xml`."""
    seed: int
    """SUMO seed."""
    n_signals: int
    """Number of signals with a choice."""
    trips: Trips
    halting: np.ndarray
    """[T] vehicles on the road below 0.1 m/s, every 5 s."""
    teleports: float
    """Number of vehicles that SUMO moved away."""
    detailed: bool
    """Whether the detailed files were written; without them, the fields below are empty."""
    emissions_mg: np.ndarray
    """[E, 2] CO2 and fuel of each vehicle that was inserted, E of them."""
    approaches: Mapping[str, Approach]
    """By edge."""
    blocked_edges: frozenset[str]
    """Approaches and other edges with at least 5 vehicles, none of which left for 5 minutes."""
    collisions: float = 0.0
    """Number of collisions that SUMO acted on."""
    dropped: Sequence[str] = ()
    """Vehicles that SUMO threw away before they came onto the road; they are in `trips`, never inserted."""
    warnings: Mapping[str, int] = field(default_factory=dict)
    """How often SUMO warned, by kind (`sim.messages`)."""
    persons: Persons = field(default_factory=lambda: Persons(np.zeros(0), np.zeros(0), np.zeros(0, dtype=bool)))


class Metric(abc.ABC):
    """A number of one episode, over all vehicles scheduled in the window.

    The docstring of a class is the formula in the tables of the documentation.
    """

    unit: ClassVar[str]
    """Unit of the number; `-` for none."""
    source: ClassVar[str] = "-"
    """Kinds of SUMO's files behind it, for the documentation."""
    detailed: ClassVar[bool] = False
    """Whether it needs the detailed files. Only evaluations write them."""
    of_some: ClassVar[bool] = False
    """Whether tables leave it out where it is not defined, such as persons' delay on a network without persons."""

    @abc.abstractmethod
    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number; nan where it is not defined."""


def mean(values: np.ndarray) -> float:
    """Return the mean of [V]; nan for no values."""
    return float(values.mean()) if len(values) else float("nan")
