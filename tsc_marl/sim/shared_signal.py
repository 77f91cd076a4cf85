"""A signal of a SUMO that another program runs: a policy and the signal's own program drive it in turn, without a jump."""

from tsc_marl.errors import UserError
from tsc_marl.sim.road_network import Signal
from tsc_marl.sim.signal_timing import NEVER, Timing
from tsc_marl.sim.simulation import Simulation


class SharedSignal:
    """Hands a signal over while its lights stay as they are.

    The policy takes it while the own program shows one of the phases. The own program takes it in a step that shows the policy's
    present phase, and starts that step anew. So every yellow, all-red and clearance of a crossing is kept.

    Attributes:
        name: of the signal.
        timer: phase and times, of whichever drives.
        driven: whether requests reach the lights.
        wanted: whether they should; the lights follow at the next moment that allows it.

    Args:
        api: the running simulation.
        signal: which.
        timing: of the policy's changes.
        now: time of the simulation [s].
        driven: show the first phase at once, as at the start of an episode.
    """

    def __init__(self, api: Simulation, signal: Signal, timing: Timing, now: float, driven: bool) -> None:
        self.name, self.driven, self.wanted = signal.name, driven, True
        self.timer = signal.timer(timing, now)
        self._lights = api.trafficlight
        self._program = self._lights.getProgram(self.name)
        programs = {logic.programID: logic for logic in self._lights.getAllProgramLogics(self.name)}
        states = [phase.state for phase in programs[self._program].phases] if self._program in programs else []
        shown = [(number, signal.phases[number]) for number in self.timer.changes.allowed]
        self._steps = {number: states.index(state) for number, state in shown if state in states}

    def check_release(self) -> None:
        """Refuse a signal that its own program could not take over.

        Raises:
            UserError: when no step of the program shows a phase.
        """
        if not self._steps:
            raise UserError(
                f"signal {self.name}: no step of its program {self._program} shows a phase that the policy may choose, so that a "
                "watchdog could not hand it back; leave the watchdog out, or name other signals"
            )

    def advance(self, now: float) -> None:
        """Show the state that is due, and hand over where that is wanted and possible; call it every second."""
        if not self.driven:
            shows_phase = self.timer.follow(self._lights.getRedYellowGreenState(self.name), now)
            if self.wanted and shows_phase:
                self._lights.setRedYellowGreenState(self.name, self.timer.phases[self.timer.phase])
                self.driven = True
            return
        self.show_due(now)
        if self.wanted or self.timer.next_event_s() < NEVER:
            return
        if (step := self._steps.get(self.timer.phase)) is None:
            self.timer.request(next(iter(self._steps)), now)
            self.show_due(now)
        else:
            self._lights.setProgram(self.name, self._program)
            self._lights.setPhase(self.name, step)
            self.driven = False

    def show_due(self, now: float) -> None:
        """Show the state that is due."""
        state = self.timer.pop_due_state(now)
        if state is not None:
            self._lights.setRedYellowGreenState(self.name, state)

    def request(self, phase: int, now: float) -> None:
        """Ask for a phase; a signal that its own program drives, or shall drive, ignores it."""
        if self.driven and self.wanted:
            self.timer.request(phase, now)
            self.show_due(now)
