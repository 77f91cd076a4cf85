"""One running SUMO: libsumo for speed, TraCI for `sumo-gui`. The only file that uses either."""

import contextlib
import importlib.util
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, ClassVar
from xml.sax.saxutils import quoteattr

import numpy as np

from tsc_marl.errors import UserError
from tsc_marl.sim import messages, output_files
from tsc_marl.sim.dropped import DroppedVehicles
from tsc_marl.sim.metrics import PERIOD_S
from tsc_marl.sim.scenario import Scenario

GUI_START_S = 60
"""How long sumo-gui may take to open."""
PARKED = 2
"""The bit of SUMO's stop state of a vehicle that stands beside the road."""
LACKS_ADDITIONAL = re.compile(r"Invalid stop definition|(busStop|parkingArea|type|route) .* is not known")
ADDITIONAL_ADVICE = "; list the file with its stops, types or routes under additional in scenario.yaml"
SAY_NOTHING = ("Process Error", "Could not parse commandline options.")
"""Texts of SUMO's exceptions; why is in its messages."""
HALTING_MS = 0.1
"""Below this speed [m/s] SUMO calls a vehicle halting."""


@dataclass(frozen=True)
class Vehicles:
    """The vehicles on the road at one instant, M of them.

    A vehicle in a stop on its lane, such as a bus, is on the road. One beside it, parked or in a bay, is not.
    """

    ids: Sequence[str]
    lane: np.ndarray
    """[M] number of the lane in `RoadNet.lane_index`."""
    pos_m: np.ndarray
    """[M] from the upstream end of the lane."""
    speed_ms: np.ndarray
    """[M]"""
    waiting_s: np.ndarray
    """[M] since the vehicle last moved."""
    lost_s: np.ndarray
    """[M] SUMO's timeLoss so far: the integral of 1 - v / v_allowed."""
    parked: frozenset[str] = field(default=frozenset(), kw_only=True)
    """The vehicles that stand beside the road."""

    @staticmethod
    def none() -> "Vehicles":
        """Return no vehicles."""
        return Vehicles([], np.zeros(0, int), *(np.zeros(0) for _ in range(4)))


VehicleGetters = tuple[Callable[[str], Any], ...]
"""Functions of a vehicle's id: lane, position, speed, waiting time, time lost, state of its stop."""


def vehicle_getters(domain: Any, prefix: str = "") -> VehicleGetters:
    """Return the functions of `traci.vehicle`, or of a module that has them with a prefix, for `read_vehicles`."""
    names = ("getLaneID", "getLanePosition", "getSpeed", "getWaitingTime", "getTimeLoss", "getStopState")
    return tuple(getattr(domain, f"{prefix}{name}") for name in names)


def read_vehicles(ids: Sequence[str], getters: VehicleGetters, lane_index: dict[str, int]) -> Vehicles:
    """Return vehicles by their ids; those that are parked by name alone.

    Raises:
        RuntimeError: for a vehicle on a lane that `lane_index` does not have.
    """
    lane, pos, speed, wait, lost, stop_state = getters
    speeds = list(map(speed, ids))
    if parked := frozenset(v for v, s in zip(ids, speeds, strict=True) if s < HALTING_MS and stop_state(v) & PARKED):
        speeds = [s for v, s in zip(ids, speeds, strict=True) if v not in parked]
        ids = [v for v in ids if v not in parked]
    waiting = [wait(v) if s < HALTING_MS else 0.0 for v, s in zip(ids, speeds, strict=True)]
    names = list(map(lane, ids))
    try:
        lanes = list(map(lane_index.__getitem__, names))
    except KeyError as error:
        vehicle = ids[names.index(error.args[0])]
        raise RuntimeError(f"vehicle {vehicle} is on lane {error.args[0]!r}, which the network file does not have") from None
    columns = (list(map(pos, ids)), speeds, waiting, list(map(lost, ids)))
    return Vehicles(ids, np.array(lanes, dtype=int), *(np.array(column, dtype=float) for column in columns), parked=parked)


def command(
    scenario: Scenario, seed: int, out: Path, tls: Sequence[str] = (), detail: bool = False, programs: Sequence[str] = ()
) -> list[str]:
    """Return SUMO's options for one episode; its output files go to the folder `out`.

    No vehicle is teleported for its waiting unless the scenario says so. Vehicles wait to be inserted for as long as it takes.
    Each of them, inserted or not, has a line in the trip output, but those that SUMO drops (`sim.dropped`).

    Args:
        scenario: what to simulate.
        seed: SUMO's random seed.
        out: folder of the output files.
        tls: signals whose states are logged.
        detail: measure emissions, and every edge.
        programs: contents of additional files with signal programs; SUMO starts a signal's last one.
    """
    options = {
        "--net-file": str(scenario.net),
        "--route-files": ",".join(map(str, scenario.routes)),
        "--begin": str(scenario.begin_s),
        "--end": str(scenario.end_s),
        "--seed": str(seed),
        "--max-depart-delay": "-1",
        "--time-to-teleport": "-1" if scenario.time_to_teleport_s is None else f"{scenario.time_to_teleport_s:g}",
        "--collision.action": scenario.collision_action,
        "--waiting-time-memory": "1000",
        "--tripinfo-output": str(out / f"tripinfo_{seed}.xml"),
        "--summary-output": str(out / f"summary_{seed}.xml"),
        "--summary-output.period": "5",
    }
    if scenario.ignore_junction_blocker_s is not None:
        options["--ignore-junction-blocker"] = f"{scenario.ignore_junction_blocker_s:g}"
    options |= {f"--{name}": value for name, value in scenario.options}
    orders = [f"<timedEvent type='SaveTLSStates' source={quoteattr(s)} dest='tls_{seed}.xml'/>" for s in tls]
    if detail:
        orders.append(
            f"<edgeData id='edges' file='edges_{seed}.xml' begin='{scenario.counted_from_s}' period='{PERIOD_S}' "
            "excludeEmpty='true' withInternal='true'/>"
        )
        options["--device.emissions.probability"] = "1"
    files = {f"programs{number or ''}": content for number, content in enumerate(programs)}
    files["orders"] = f"<additional>{''.join(orders)}</additional>" if orders else ""
    written = {out / f"{name}_{seed}.add.xml": content for name, content in files.items() if content}
    for path, content in written.items():
        path.write_text(content, encoding="utf-8")
    names = (f"{seed}_{i}" if i else str(seed) for i in range(len(scenario.additional)))
    confined = [output_files.confine(path, out, name) for path, name in zip(scenario.additional, names, strict=True)]
    if additional := [*confined, *written]:
        options["--additional-files"] = ",".join(map(str, additional))
    flags = ["--tripinfo-output.write-unfinished", "--tripinfo-output.write-undeparted", "--no-step-log"]
    return [part for pair in options.items() for part in pair] + flags


def trajectory_file(out: Path, seed: int) -> Path:
    """Return the file of an episode's trajectories in the folder of its files."""
    return out / f"trajectories_{seed}.csv.gz"


def trajectory_options(out: Path, seed: int) -> tuple[str, ...]:
    """Return SUMO's options that make it write the trajectories of an episode."""
    return ("--fcd-output", str(trajectory_file(out, seed)), "--fcd-output.attributes", "id,lane,pos,speed")


def binary(name: str) -> str:
    """Return the path of one of SUMO's programs, from the wheel or the PATH.

    Raises:
        UserError: when it is not installed.
    """
    spec = importlib.util.find_spec("sumo")
    folders = list(spec.submodule_search_locations or []) if spec else []
    path = next((str(Path(f, "bin", name)) for f in folders if Path(f, "bin", name).exists()), None) or shutil.which(name)
    if not path:
        raise UserError(f"{name} not found; run `make install`, or put SUMO's bin folder on the PATH")
    return path


def check_display() -> None:
    """Refuse to open a window where there is no display.

    Raises:
        UserError: then.
    """
    if not os.environ.get("DISPLAY") and sys.platform.startswith("linux"):
        raise UserError("no display (DISPLAY is not set); `watch` needs one: use a desktop session, ssh -X or xvfb-run")


def window_closed_error() -> type[Exception]:
    """Return the kind of error that any call raises after sumo-gui's window was closed."""
    import traci

    return traci.exceptions.FatalTraCIError


@contextlib.contextmanager
def _stderr_in(file: BinaryIO) -> Iterator[None]:
    """Redirect what libsumo prints to a file: it writes to the process's stderr, past Python's."""
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def join(host: str, port: int, order: int, patience_s: float) -> Any:
    """Return a connection of TraCI to a SUMO that others started, once all of its clients are there.

    Args:
        host: where it runs.
        port: its `--remote-port`.
        order: place among the clients in each step; another client's may not be the same.
        patience_s: how long it may take to open its port, and to answer [s].

    Raises:
        UserError: when it does not.
    """
    import traci

    until = time.monotonic() + patience_s
    while True:
        try:
            connection = traci.connect(port, 0, host)
            line: Any = connection._socket  # traci has no way of its own to wait for so long and no longer
            line.settimeout(patience_s)
            connection.setOrder(order)
            line.settimeout(None)
            return connection
        except (*connection_errors(), OverflowError):
            if time.monotonic() > until:
                raise UserError(
                    f"SUMO on {host}:{port} did not answer within {patience_s:g} s; start it with --remote-port {port} "
                    "--num-clients 2, and the other client, first"
                ) from None
            time.sleep(0.2)


def hang_up(connection: Any) -> None:
    """End a connection of `join` from another thread: its present call fails."""
    connection._socket.shutdown(socket.SHUT_RDWR)


def connection_errors() -> tuple[type[Exception], ...]:
    """Return the kinds of error that a call of a connection raises after SUMO has ended."""
    import traci

    return traci.connection.FatalTraCIError, ConnectionError


class Engine:
    """A simulation in progress. One at a time in a process: libsumo has only one.

    Attributes:
        dropped: the vehicles that SUMO throws away.

    Args:
        scenario: what to simulate.
        options: SUMO's options, from `command`.
        log: a new file for SUMO's warnings and errors (`sim.messages`).
        gui: open `sumo-gui` over TraCI, with these further options of it.

    Raises:
        UserError: when SUMO refuses the files, or another simulation runs in this process.
    """

    _running: ClassVar["Engine | None"] = None

    def __init__(self, scenario: Scenario, options: Sequence[str], log: Path, gui: Sequence[str] | None = None) -> None:
        if Engine._running is not None:
            raise UserError("a simulation already runs in this process; close it, or use one process for each")
        self.now = float(scenario.begin_s)
        self._name = scenario.name
        self._gui = gui is not None
        self._log = log
        self._window: subprocess.Popen[bytes] | None = None
        with contextlib.ExitStack() as opened:
            self._messages = opened.enter_context(log.open("wb", buffering=0))
            self.api: Any = self._start_gui([*options, *gui]) if gui is not None else self._start(options)
            opened.pop_all()
        self._vehicle_getters = self._find_vehicle_getters()
        self.dropped = DroppedVehicles(self.api, self._unknown_vehicle(), self.now)
        Engine._running = self

    def _start(self, options: Sequence[str]) -> ModuleType:
        from tsc_marl.sim._libsumo import libsumo

        try:
            with _stderr_in(self._messages):
                libsumo.start(["sumo", *options])
        except libsumo.TraCIException as error:
            raise UserError(f"{self._name}: SUMO refused to start: {self._reason(error)}") from None
        return libsumo

    def _start_gui(self, options: Sequence[str]) -> Any:
        check_display()
        import traci
        from sumolib.miscutils import getFreeSocketPort

        port = int(getFreeSocketPort() or 0)
        command = [binary("sumo-gui"), *options, "--remote-port", str(port)]
        process = self._window = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self._messages)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints a line for every second that it waits
                return traci.connect(port, numRetries=GUI_START_S, proc=process)
        except (traci.main.TraCIException, traci.main.FatalTraCIError) as error:  # libsumo replaces those of traci.exceptions
            process.kill()
            if reason := messages.last_error(self._log):
                raise UserError(f"{self._name}: sumo-gui refused to start: {reason}") from None
            display = os.environ.get("DISPLAY")
            raise UserError(f"sumo-gui did not start on display {display} ({error}); can that display be reached?") from None
        except BaseException:
            process.kill()
            raise

    def _reason(self, error: Exception) -> str:
        """Return why SUMO gave up: some of its exceptions say nothing, after a message."""
        text = " ".join(str(error).split())
        reason = messages.last_error(self._log) if text in SAY_NOTHING else text
        reason = (reason or text).rstrip(".")
        return reason + ADDITIONAL_ADVICE if LACKS_ADDITIONAL.search(reason) else reason

    def advance(self, until_s: float) -> None:
        """Simulate until a time [s].

        Raises:
            UserError: when SUMO comes to something in the files that it cannot play, which ends the simulation. In
                `sumo-gui`, which shows why, the error is `closed_window`'s.
        """
        try:
            with _stderr_in(self._messages):
                self.api.simulationStep(until_s)
        except self._refusals() as error:
            self.close()
            why = self._reason(error)
            raise UserError(f"{self._name}: SUMO stopped after second {self.now:.0f}: {why}; correct the route files") from None
        self.dropped.update(self.now, until_s)
        self.now = until_s

    def waited_in_vain_s(self) -> dict[str, float]:
        """Return how long each vehicle that SUMO threw away would have waited by now [s]."""
        return self.dropped.waited_s(self.now, self._log)

    def _refusals(self) -> tuple[type[Exception], ...]:
        return () if self._gui else (self.api.TraCIException, self.api.libsumo.FatalTraCIError)

    def _unknown_vehicle(self) -> type[Exception]:
        if not self._gui:
            return self.api.TraCIException
        import traci

        return traci.main.TraCIException

    def set_state(self, signal: str, state: str) -> None:
        """Show a state on a signal from now on."""
        self.api.trafficlight.setRedYellowGreenState(signal, state)

    def states(self, signals: Sequence[str]) -> list[str]:
        """Return the states that signals show."""
        return [self.api.trafficlight.getRedYellowGreenState(signal) for signal in signals]

    def restore(self, signal: str, program: str) -> None:
        """Hand a signal back to one of its programs."""
        self.api.trafficlight.setProgram(signal, program)

    def vehicles(self, lane_index: dict[str, int]) -> Vehicles:
        """Return every vehicle on the road."""
        return read_vehicles(self.api.vehicle.getIDList(), self._vehicle_getters, lane_index)

    def _find_vehicle_getters(self) -> VehicleGetters:
        """Return the functions that read one vehicle: in libsumo the compiled ones, without their Python wrappers."""
        return vehicle_getters(self.api.vehicle) if self._gui else vehicle_getters(self.api.libsumo._libsumo, "vehicle_")

    def kill_window(self) -> None:
        """End sumo-gui at once; `close` leaves it open until its user closes it."""
        if self._window is not None:
            self._window.kill()

    def close(self) -> None:
        """End the simulation; SUMO completes its output files."""
        if Engine._running is self:
            Engine._running = None
            with contextlib.suppress(*([window_closed_error()] if self._gui else [])), _stderr_in(self._messages):
                self.api.close()
            self._messages.close()
