"""The calls of SUMO that the environment, its observations, rewards and disturbances use."""

from collections.abc import Sequence
from typing import Any, Protocol


class VehicleCalls(Protocol):
    """Vehicles, by name."""

    def getIDList(self) -> Sequence[str]:
        """Return the vehicles on the road."""
        ...

    def getLoadedIDList(self) -> Sequence[str]:
        """Return the vehicles on the road and those that wait to be inserted."""
        ...

    def getLaneID(self, vehID: str) -> str:
        """Return the lane."""
        ...

    def getLanePosition(self, vehID: str) -> float:
        """Return the distance from the upstream end of the lane [m]."""
        ...

    def getSpeed(self, vehID: str) -> float:
        """Return the speed [m/s]."""
        ...

    def getWaitingTime(self, vehID: str) -> float:
        """Return the time since the vehicle last moved [s]."""
        ...

    def getTimeLoss(self, vehID: str) -> float:
        """Return the time lost on the road so far [s]."""
        ...

    def getStopState(self, vehID: str) -> int:
        """Return the bits of the vehicle's stop: 1 stopped, 2 parked beside the road, 16 at a bus stop, and so on."""
        ...

    def getVehicleClass(self, vehID: str) -> str:
        """Return the class, such as `passenger` or `emergency`."""
        ...

    def getPersonNumber(self, vehID: str) -> int:
        """Return the persons who ride in the vehicle."""
        ...

    def getDeparture(self, vehID: str) -> float:
        """Return the time of departure [s]; negative before it."""
        ...

    def getDepartDelay(self, vehID: str) -> float:
        """Return how long the vehicle has waited, or did wait, to be inserted [s]."""
        ...

    def getRoute(self, vehID: str) -> Sequence[str]:
        """Return the edges of the route."""
        ...

    def getNextTLS(self, vehID: str) -> Any:
        """Return the signals ahead: name, link, distance [m] and state of each."""
        ...

    def setStop(self, vehID: str, edgeID: str, pos: float, laneIndex: int, duration: float) -> None:
        """Let the vehicle stop at a position of a lane for some seconds."""
        ...


class LaneCalls(Protocol):
    """Lanes, by name."""

    def getDisallowed(self, laneID: str) -> Sequence[str]:
        """Return the vehicle classes that may not use the lane."""
        ...

    def getLastStepVehicleNumber(self, laneID: str) -> int:
        """Return the number of vehicles on the lane."""
        ...

    def getLastStepVehicleIDs(self, laneID: str) -> Sequence[str]:
        """Return the vehicles on the lane."""
        ...


class TrafficLightCalls(Protocol):
    """Signals, by name."""

    def getIDList(self) -> Sequence[str]:
        """Return the signals."""
        ...

    def getRedYellowGreenState(self, tlsID: str) -> str:
        """Return the state that the signal shows."""
        ...

    def setRedYellowGreenState(self, tlsID: str, state: str) -> None:
        """Show a state from now on."""
        ...

    def getProgram(self, tlsID: str) -> str:
        """Return the programID of the program that runs."""
        ...

    def setProgram(self, tlsID: str, programID: str) -> None:
        """Let a program run."""
        ...

    def setPhase(self, tlsID: str, index: int) -> None:
        """Start a step of the program that runs."""
        ...

    def getAllProgramLogics(self, tlsID: str) -> Sequence[Any]:
        """Return the programs, each with a programID and phases."""
        ...


class PersonCalls(Protocol):
    """Persons, by name."""

    def getIDList(self) -> Sequence[str]:
        """Return the persons on their way."""
        ...

    def getSpeed(self, personID: str) -> float:
        """Return the speed [m/s]."""
        ...

    def getRoadID(self, personID: str) -> str:
        """Return the edge."""
        ...

    def getStage(self, personID: str) -> Any:
        """Return what the person does now, with its kind as `type`: 2 walking, 3 riding or waiting for a ride, and so on."""
        ...


class ClockCalls(Protocol):
    """The simulation as a whole."""

    def getTime(self) -> float:
        """Return the simulated time [s]."""
        ...

    def getDeltaT(self) -> float:
        """Return the length of a step [s]."""
        ...

    def getLoadedIDList(self) -> Sequence[str]:
        """Return the vehicles loaded since the last call of a step."""
        ...

    def getDepartedIDList(self) -> Sequence[str]:
        """Return the vehicles inserted since the last call of a step."""
        ...

    def getPendingVehicles(self) -> Sequence[str]:
        """Return the vehicles that wait to be inserted."""
        ...


class Simulation(Protocol):
    """A running SUMO: the module libsumo, or a connection of TraCI."""

    @property
    def vehicle(self) -> VehicleCalls: ...
    @property
    def lane(self) -> LaneCalls: ...
    @property
    def person(self) -> PersonCalls: ...
    @property
    def trafficlight(self) -> TrafficLightCalls: ...
    @property
    def simulation(self) -> ClockCalls: ...
