"""What controllers, observations and rewards get to see."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tsc_marl.sim.engine import Vehicles
from tsc_marl.sim.road_network import RoadNetwork
from tsc_marl.sim.signal_timer import SignalTimer
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.sim.simulation import Simulation


@dataclass(frozen=True)
class SignalContext:
    """What is known of the N signals before an episode."""

    network: RoadNetwork
    timing: Timing
    detection_m: float
    """How far upstream of the stop line vehicles are detected [m]."""


@dataclass(frozen=True)
class SignalView:
    """What a controller or an observation may see at a decision: the signals, and what their detectors show.

    The running simulation and the vehicles that no detector shows are not in it.
    """

    now_s: float
    """Simulated time [s]."""
    vehicles: Vehicles
    """The vehicles that the detectors show."""
    timers: Sequence[SignalTimer]
    """[N] present phase of each signal, and the time in it."""
    legal: np.ndarray
    """[N, A] bool, the phases that a signal may choose now; padded phases never."""
    failed: np.ndarray
    """[L] bool, the lanes of the network whose detectors are known to have failed."""
    next_signals: Callable[[str], Any]
    """Returns SUMO's `vehicle.getNextTLS` of a vehicle of `vehicles`: per signal ahead its name, link, distance [m] and state."""
    persons: Callable[[str], float] = lambda _: 1.0
    """Returns how many persons are in a vehicle of `vehicles`."""


@dataclass(frozen=True)
class EpisodeContext(SignalContext):
    """What rewards get, and observations that declare `reads_sumo`: the running simulation too."""

    simulation: Simulation
    timers: Sequence[SignalTimer]
    """[N] phase and timers of each signal; they advance with the episode."""
    occupancy: Mapping[str, float] = field(default_factory=dict)
    """Persons in a vehicle by its class, beside those that SUMO simulates; 1 in those of other classes."""

    def signals(self) -> SignalContext:
        """Return the part without the simulation."""
        return SignalContext(self.network, self.timing, self.detection_m)
