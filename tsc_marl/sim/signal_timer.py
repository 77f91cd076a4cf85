"""The timing state machine of one signal: what it may show now, and what it shows on the way there.

It is the only writer of lights. Whatever a policy asks, a green lasts at least `min_green_s`, every link that loses
its green shows yellow for exactly `yellow_s` and red for `all_red_s` before the next green starts, and no link stays
red longer than `max_red_s` where that is set (`longest_red`). A crossing is green for at least `min_walk_s`, knows no yellow, and
is red for as long as a person needs to walk over it before the next green starts; no crossing stays red longer than
`max_crossing_red_s`. Limits of single signals (`signal_limits`) come on top.
"""

from collections.abc import Sequence

import numpy as np

from tsc_marl.errors import UserError
from tsc_marl.sim.longest_red import LongestRed
from tsc_marl.sim.signal_limits import NO_LIMITS, SignalLimits
from tsc_marl.sim.signal_timing import NEVER, Crossing, Timing, phase_changes


class SignalTimer:
    """One signal's state machine. Times are SUMO seconds; decisions fall on multiples of `decision_s` from `start_s`.

    Raises:
        UserError: at construction, when the signal's limits, `max_red_s` or `max_crossing_red_s` cannot be kept together.
    """

    def __init__(
        self, name: str, phases: tuple[str, ...], timing: Timing, start_s: float, crossings: Sequence[Crossing] = (),
        limits: SignalLimits = NO_LIMITS,
    ) -> None:  # fmt: skip
        self.name, self.phases, self.timing = name, phases, timing
        self.changes = changes = phase_changes(tuple(phases), timing, tuple(crossings), limits)
        self.phase = changes.allowed[0]
        self.changed_s = start_s
        """When the change to the present phase was decided (the start counts as one, as in sumo-rl)."""
        self._change_s = changes.own_change_s
        self._left_s: float | None = None
        """Since when another program shows none of the phases (`follow`)."""
        self._stages: list[tuple[float, str]] = [(start_s, phases[self.phase])]
        self._only = np.eye(len(phases), dtype=bool)
        self._choices = {phase: np.isin(np.arange(len(phases)), [phase, *onward]) for phase, onward in changes.onward.items()}
        self._check_intergreen()
        self._shown_since = start_s
        self.ending_s = {phase: self._latest_end_s(phase) for phase in changes.allowed}
        """How long after the decision to leave a phase vehicles see it at most; 0 without a longest green."""
        self._check_max_green()
        self.red = LongestRed(name, changes, start_s)
        """The longest red of its links."""
        self._is_free = not self.red.is_limited and all(seconds == NEVER for seconds in changes.most_green_s)

    @property
    def service_s(self) -> int:
        """Seconds from the decision for a phase to the first decision that may leave it, at most."""
        return self.changes.service_s

    def since_change_s(self, now: float) -> float:
        """Return the seconds since the last change was decided."""
        return now - self.changed_s

    def green_s(self, now: float) -> float:
        """Return the seconds since the present phase began, 0 during the change to it."""
        return max(0.0, now - self.changed_s - self._change_s)

    def may_change(self, now: float) -> bool:
        """Return whether the minimum green has passed."""
        return now - self.changed_s >= self._change_s + self.changes.least_green_s[self.phase]

    def legal(self, now: float) -> np.ndarray:
        """Return [A] bool, not to be written to: the phases that may be chosen at this decision. At least one always may."""
        if not self.may_change(now):
            return self._only[self.phase]
        choices = self._choices[self.phase]
        if self._is_free:
            return choices
        legal, shown_until = choices.copy(), self._shown_since + self.changes.most_green_s[self.phase]
        legal[self.phase] &= now + self.timing.decision_s + self.ending_s[self.phase] <= shown_until
        if self.red.is_limited:
            legal[legal] = [self.red.keeps(self.phase, phase, now) for phase in np.flatnonzero(legal).tolist()]
        return legal if legal.any() else choices  # none where another program has shown the phases (`follow`)

    def request(self, phase: int, now: float) -> int:
        """Ask for a phase; return the one that is executed: the nearest legal choice is to stay."""
        legal = self.legal(now)
        if not legal[phase]:
            phase = self.phase if legal[self.phase] else self.red.most_urgent(self.phase, legal)
        if phase != self.phase:
            self._change(phase, now)
        return phase

    def next_event_s(self) -> float:
        """Return when the lights change next; infinity when nothing is due."""
        return self._stages[0][0] if self._stages else NEVER

    def pop_due_state(self, now: float) -> str | None:
        """Return the state to show from now on, None when it stays."""
        state = None
        while self._stages and self._stages[0][0] <= now:
            state = self._stages.pop(0)[1]
        return state

    def follow(self, state: str, now: float) -> bool:
        """Take in what another program shows, second by second; return whether it is a phase that may be chosen.

        The change to it began when the last phase ended. The longest red counts from now on.
        """
        self._stages.clear()
        self.red.restart(now)
        if self._left_s is None and state != self.phases[self.phase]:
            self._left_s = now
        phase = next((phase for phase in self.changes.allowed if self.phases[phase] == state), None)
        if phase is None:
            return False
        if self._left_s is not None:
            self.phase, self._shown_since = phase, now
            self.changed_s, self._change_s, self._left_s = self._left_s, int(now - self._left_s), None
        return True

    def _change(self, phase: int, now: float) -> None:
        start = now
        for seconds, state in self.changes.stages(self.phase, phase):
            self._stages.append((start, state))
            start += seconds
        self._stages.append((start, self.phases[phase]))
        self.red.change(self.phase, phase, now)
        if self.changes.most_green_s[phase] < NEVER:
            self._shown_since = start - self.changes.shown_s(self.phase, phase)[1]
        self.phase, self.changed_s, self._change_s = phase, now, self.changes.change_s(self.phase, phase)

    def _check_intergreen(self) -> None:
        for before, following in self.changes.onward.items():
            for after in following:
                given_s, least_s = self.changes.intergreen_s[before][after], self.changes.shortest_s(before, after)
                if given_s < least_s:
                    raise UserError(
                        f"signal {self.name}: limits.intergreen {given_s} from phase {before} to phase {after} is shorter than "
                        f"its yellow of {least_s} s; raise the first or lower limits.yellow_s"
                    )

    def _latest_end_s(self, phase: int) -> int:
        if self.changes.most_green_s[phase] == NEVER:
            return 0
        return max(self.changes.shown_s(phase, after)[0] for after in self.changes.onward[phase])

    def _check_max_green(self) -> None:
        """Refuse a longest green that is over before the first decision that may end it."""
        changes = self.changes
        shown_s = dict.fromkeys(changes.allowed, 0) | {self.phase: changes.first_visit_s()}
        for before, following in changes.onward.items():
            for after in (phase for phase in following if changes.most_green_s[phase] < NEVER):
                visit_s = changes.visit_s(before, after) - changes.change_s(before, after) + changes.shown_s(before, after)[1]
                shown_s[after] = max(shown_s[after], visit_s)
        for phase, seconds in shown_s.items():
            least_s, most_s = seconds + self.ending_s[phase], changes.most_green_s[phase]
            if most_s < least_s:
                raise UserError(
                    f"signal {self.name}: limits.max_green_s {most_s} of phase {phase} cannot be kept: with a least green of "
                    f"{changes.least_green_s[phase]} s and a decision every {self.timing.decision_s} s it lasts up to "
                    f"{least_s} s; raise limits.max_green_s to at least {least_s}, or lower the others"
                )


def legal_phases(timers: Sequence[SignalTimer], now: float) -> np.ndarray:
    """Return the phases that may be requested now, [N, A] bool; phases that a signal does not have are False."""
    mask = np.zeros((len(timers), max(len(timer.phases) for timer in timers)), dtype=bool)
    for row, timer in zip(mask, timers, strict=True):
        row[: len(timer.phases)] = timer.legal(now)
    return mask
