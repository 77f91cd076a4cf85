"""Vehicles that SUMO throws away before they come onto the road, such as those that are too fast for the road ahead."""

from pathlib import Path

from tsc_marl.sim import messages
from tsc_marl.sim.simulation import Simulation


class DroppedVehicles:
    """Keeps, of the vehicles that SUMO has loaded and not inserted, when they depart; at the end, some of them are gone.

    Args:
        api: the running simulation.
        unknown: the error of a call that names a vehicle which is gone.
        now_s: SUMO's clock [s]. What SUMO loads at its start is on no list of what was loaded since.
    """

    def __init__(self, api: Simulation, unknown: type[Exception], now_s: float) -> None:
        self._api, self._unknown = api, unknown
        self._departure_s = {name: now_s - api.vehicle.getDepartDelay(name) for name in api.vehicle.getLoadedIDList()}
        self._unread: dict[str, float] = {}
        """Vehicles loaded and gone between two calls, with the time of the first."""

    def update(self, since_s: float, now_s: float) -> None:
        """Note what was loaded and inserted since the last call."""
        simulation, delay_s = self._api.simulation, self._api.vehicle.getDepartDelay
        for name in simulation.getLoadedIDList():
            try:
                self._departure_s[name] = now_s - delay_s(name)
            except self._unknown:
                self._unread[name] = since_s
        for name in simulation.getDepartedIDList():
            self._departure_s.pop(name, None)
            self._unread.pop(name, None)

    def waited_s(self, now_s: float, log: Path) -> dict[str, float]:
        """Return how long each dropped vehicle would have waited by now [s].

        A vehicle that was loaded and dropped within one call departs when SUMO's messages first name it, else when the
        call began.
        """
        present = set(self._api.vehicle.getLoadedIDList())
        gone = {name: departure_s for name, departure_s in self._departure_s.items() if name not in present}
        if self._unread:
            gone |= self._unread | {name: s for name, s in messages.first_times(log).items() if name in self._unread}
        return {name: now_s - departure_s for name, departure_s in gone.items() if departure_s < now_s}
