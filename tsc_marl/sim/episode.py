"""What observations and rewards get at the start of an episode."""

from collections.abc import Sequence
from dataclasses import dataclass

from tsc_marl.sim.road_network import RoadNetwork
from tsc_marl.sim.signal_timing import SignalTimer, Timing
from tsc_marl.sim.simulation import Simulation


@dataclass(frozen=True)
class EpisodeContext:
    """The network and the running simulation of one episode."""

    network: RoadNetwork
    timing: Timing
    detection_m: float
    """How far upstream of the stop line vehicles are detected [m]."""
    simulation: Simulation
    timers: Sequence[SignalTimer]
    """[N] phase and timers of each signal; they advance with the episode."""
