"""Priority at signals: phases for emergency vehicles and public transport, whatever the policy.

A vehicle that comes near a signal leaves the policy only those legal phases that give it green. So a green goes on until the
vehicle has passed, or comes earlier. What a signal has to keep, it keeps: yellow, least and longest greens, longest reds,
crossings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tsc_marl.sim.road_network import RoadNetwork
from tsc_marl.sim.scenario import Scenario
from tsc_marl.sim.signal_timing import GREEN
from tsc_marl.sim.simulation import Simulation
from tsc_marl.sim.timetable import EMERGENCY, has_name, transit

EMERGENCY_M = 300.0
"""Distance from the stop line within which an emergency vehicle has priority: the queue before it has to leave."""
TRANSIT_M = 100.0
"""The same for public transport."""
RANGE_M = {"emergency": EMERGENCY_M, "transit": TRANSIT_M}
LONGEST_S = 40.0
"""How long one vehicle of public transport has priority at a signal at most."""
REST_S = 40.0
"""Time from the priority of one vehicle of public transport at a signal to that of the next."""
STOPPED = 1
"""The bit of SUMO's stop state of a vehicle at a stop."""


@dataclass(frozen=True, order=True)
class _Request:
    """A vehicle that asks for priority; the least one gets it."""

    is_transit: bool
    distance_m: float
    vehicle: str
    link: int


@dataclass
class _Service:
    """The vehicle of public transport that had priority at a signal last, since when, and until when."""

    vehicle: str
    since_s: float
    until_s: float


def kept_to(legal: np.ndarray, actions: np.ndarray, present: Sequence[int]) -> np.ndarray:
    """Return phases [N] that may be chosen: those asked for; where one may not be, the present phase, or the first that may.

    Args:
        legal: [N, A] bool, at least one in each row.
        actions: [N] int.
        present: [N] the phases shown now.
    """
    signals, shown = np.arange(len(legal)), np.asarray(present)
    instead = np.where(legal[signals, shown], shown, legal.argmax(axis=1))
    return np.where(legal[signals, actions], actions, instead)


class Priority:
    """The priority of one episode.

    Vehicles report themselves, so failed detectors do not matter. Emergency vehicles come before public transport, and near
    vehicles before others. A vehicle at a stop asks for nothing.

    Args:
        kind: whom it is for.
        scenario: names the vehicles of public transport.
        network: with the N signals.
        simulation: the running one.
    """

    def __init__(
        self, kind: Literal["emergency", "transit", "all"], scenario: Scenario, network: RoadNetwork, simulation: Simulation
    ) -> None:
        self._vehicles = simulation.vehicle
        self._for_emergency = kind != "transit"
        self._lines = frozenset[str]() if kind == "emergency" else transit(scenario)
        self._number = {signal.name: i for i, signal in enumerate(network.signals)}
        self._states = [np.array([list(phase) for phase in signal.phases]) for signal in network.signals]
        self._kinds: dict[str, str] = {}
        self._services: dict[int, _Service] = {}

    def restrict(self, legal: np.ndarray, now: float, vehicles: Sequence[str]) -> np.ndarray:
        """Return the phases that may be chosen, [N, A] bool: of the legal ones those that serve whoever has priority.

        Args:
            legal: [N, A] bool.
            now: simulated time [s].
            vehicles: all on the road.
        """
        first: dict[int, _Request] = {}
        for vehicle in vehicles:
            if (asked := self._request(vehicle, now)) is not None:
                signal, request = asked
                first[signal] = min(first.get(signal, request), request)
        restricted = legal.copy()
        for signal, request in first.items():
            if request.is_transit:
                self._note(signal, request.vehicle, now)
            shown = self._states[signal][:, request.link]
            row = legal[signal, : len(shown)]
            for serving in (shown == "G", np.isin(shown, list(GREEN))):
                if (row & serving).any():
                    restricted[signal, : len(shown)] = row & serving
                    break
        return restricted

    def _request(self, vehicle: str, now: float) -> tuple[int, _Request] | None:
        """Return the signal that a vehicle asks for priority, and its request."""
        kind = self._kind_of(vehicle)
        ahead = self._vehicles.getNextTLS(vehicle) if kind else ()
        if not ahead or ahead[0][2] > RANGE_M[kind] or ahead[0][0] not in self._number:
            return None
        name, link, distance_m, _ = ahead[0]
        signal, is_transit = self._number[name], kind == "transit"
        if self._vehicles.getStopState(vehicle) & STOPPED or (is_transit and not self._may_serve(signal, vehicle, now)):
            return None
        return signal, _Request(is_transit, distance_m, vehicle, link)

    def _kind_of(self, vehicle: str) -> str:
        """Return `emergency`, `transit`, or nothing for most vehicles."""
        if vehicle not in self._kinds:
            is_emergency = self._for_emergency and self._vehicles.getVehicleClass(vehicle) == EMERGENCY
            self._kinds[vehicle] = "emergency" if is_emergency else "transit" if has_name(self._lines, vehicle) else ""
        return self._kinds[vehicle]

    def _may_serve(self, signal: int, vehicle: str, now: float) -> bool:
        last = self._services.get(signal)
        if last is None:
            return True
        return now - last.since_s < LONGEST_S if vehicle == last.vehicle else now - last.until_s >= REST_S

    def _note(self, signal: int, vehicle: str, now: float) -> None:
        last = self._services.get(signal)
        if last is None or last.vehicle != vehicle:
            last = self._services[signal] = _Service(vehicle, now, now)
        last.until_s = now
