"""The timing state machine of one signal: what it may show now, and what it shows on the way there.

It is the only writer of lights. Whatever a policy asks, a green lasts at least `min_green_s`, every link that loses
its green shows yellow for exactly `yellow_s` and red for `all_red_s` before the next green starts, and no link stays
red longer than `max_red_s` where that is set (`longest_red`). A crossing is green for at least `min_walk_s`, knows no yellow, and
is red for as long as a person needs to walk over it before the next green starts; no crossing stays red longer than
`max_crossing_red_s`. Limits of single signals (`signal_limits`) come on top.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tsc_marl.bounds import Count, NaturalNumber, Positive, check
from tsc_marl.errors import UserError
from tsc_marl.sim.longest_red import NEVER, LongestRed
from tsc_marl.sim.signal_limits import NO_LIMITS, SignalLimits, each

GREEN = frozenset("Gg")
CHANGE = frozenset("yYu")
"""Yellow, whatever the right of way, and red-yellow."""


@dataclass(frozen=True)
class Timing:
    """Signal timing; the defaults are sumo-rl's, so that numbers compare."""

    decision_s: Count = 5
    """Seconds between two decisions."""
    yellow_s: NaturalNumber = 2
    """Seconds of yellow for links that lose their green."""
    all_red_s: NaturalNumber = 0
    """Seconds of red after the yellow, before the next green starts."""
    min_green_s: Count = 5
    """Seconds that a green lasts at least."""
    max_red_s: int | None = None
    """Seconds that a link stays red at most; None sets no limit."""
    walking_ms: Positive = 1.2
    """Speed [m/s] of a person on a crossing. Its length over this speed is the time from its green to the next one."""
    min_walk_s: Count = 7
    """Seconds that the green of a crossing lasts at least."""
    max_crossing_red_s: Count = 120
    """Seconds that a crossing stays red at most."""

    def __post_init__(self) -> None:
        """Refuse timings that contradict themselves."""
        check(self, "timing.")
        if self.max_red_s is not None and self.max_red_s < self.change_s + self.min_green_s:
            raise UserError(
                f"timing.max_red_s {self.max_red_s} is shorter than one change and one green "
                f"(timing.yellow_s {self.yellow_s} + timing.all_red_s {self.all_red_s} "
                f"+ timing.min_green_s {self.min_green_s}); raise the first or lower the others"
            )

    @property
    def change_s(self) -> int:
        """Seconds from the end of one green to the start of the next."""
        return self.yellow_s + self.all_red_s


@dataclass(frozen=True)
class Crossing:
    """A pedestrian crossing that a signal serves."""

    link: int
    """Index of its character in the signal's state string."""
    length_m: float


class PhaseChanges:
    """What a signal shows between its phases, and how long it takes.

    Where a crossing needs more time than yellow and all-red, it turns red that much earlier; its vehicles stay green meanwhile.

    Args:
        phases: SUMO state strings.
        timing: of the signal.
        crossings: that it serves.
        limits: of the signal.
    """

    def __init__(
        self, phases: Sequence[str], timing: Timing, crossings: Sequence[Crossing] = (), limits: SignalLimits = NO_LIMITS
    ) -> None:
        self.phases, self.timing, self.limits, n = phases, timing, limits, range(len(phases))
        self.green = np.array([[char in GREEN for char in state] for state in phases])
        """[P, L] bool."""
        self.is_crossing = np.zeros(len(phases[0]), dtype=bool)
        """[L] bool, whether a link is a crossing."""
        self._clearance_s = np.zeros(len(phases[0]), dtype=int)
        for crossing in crossings:
            self.is_crossing[crossing.link] = True
            self._clearance_s[crossing.link] = math.ceil(crossing.length_m / timing.walking_ms)
        self.walks = self.green & self.is_crossing
        """[P, L] bool, the greens of crossings."""
        walk_s = np.where(self.walks.any(axis=1), timing.min_walk_s, 0)
        self.least_green_s = np.maximum(each(limits.min_green_s, len(phases), timing.min_green_s), walk_s).tolist()
        """[P] seconds that a phase lasts at least."""
        self.most_green_s = each(limits.max_green_s, len(phases), NEVER)
        """[P] seconds that a phase is shown at most."""
        self._yellow_s = timing.yellow_s if limits.yellow_s is None else limits.yellow_s
        self.own_change_s = self._yellow_s + (timing.all_red_s if limits.all_red_s is None else limits.all_red_s)
        """Yellow and all-red of the signal."""
        intergreen = limits.intergreen or (None,) * len(phases)
        self.intergreen_s = [each(row, len(phases), self.own_change_s) for row in intergreen]
        """[P, P] seconds from the end of the green of one phase to the start of another."""
        self.early_s = [[self._early_s(p, q) for q in n] for p in n]
        """[P, P] seconds by which crossings turn red before vehicles turn yellow, from one phase to another."""
        self.allowed = limits.allowed(len(phases))
        """Phases that may be shown."""
        self.onward = {phase: limits.onward(phase, len(phases)) for phase in self.allowed}
        """The phases that may follow each of them."""
        self.longest_s = max(self.change_s(p, q) for p in self.allowed for q in self.onward[p])
        """The longest change."""
        self.service_s = self._until_decision_s(
            max(self.longest_s, self.own_change_s) + max(self.least_green_s[p] for p in self.allowed)
        )
        """Seconds from the decision for a phase to the first decision that may leave it, at most."""

    def change_s(self, before: int, after: int) -> int:
        """Return the seconds from the decision to leave a phase to the start of another."""
        return self.early_s[before][after] + self.intergreen_s[before][after]

    def yellow_s(self, before: int, after: int) -> int:
        """Return the seconds of yellow; fewer than the signal's own only where no vehicle loses its green."""
        return min(self._yellow_s, self.intergreen_s[before][after])

    def shortest_s(self, before: int, after: int) -> int:
        """Return the least legal `intergreen_s`: the yellow of the vehicles that lose their green."""
        ending = self.green[before] & ~self.green[after] & ~self.is_crossing
        return self._yellow_s if ending.any() else 0

    def stages(self, before: int, after: int) -> list[tuple[int, str]]:
        """Return seconds and state of what is shown between two phases, one after the other."""
        states, yellow_s = (self.phases[before], self.phases[after]), self.yellow_s(before, after)
        stages = [
            (self.early_s[before][after], self._between(*states, states[0])),
            (yellow_s, self._between(*states, "y" * len(states[0]))),
            (self.intergreen_s[before][after] - yellow_s, self._between(*states, "r" * len(states[0]))),
        ]
        return [(seconds, state) for seconds, state in stages if seconds]

    def shown_s(self, before: int, after: int) -> tuple[int, int]:
        """Return for how long a change looks like the phase before it to vehicles, and like the one after it to everybody."""
        stages = self.stages(before, after)
        old = itertools.takewhile(lambda stage: self._for_vehicles(stage[1]) == self._for_vehicles(self.phases[before]), stages)
        new = itertools.takewhile(lambda stage: stage[1] == self.phases[after], reversed(stages))
        return sum(seconds for seconds, _ in old), sum(seconds for seconds, _ in new)

    def visit_s(self, before: int, after: int) -> int:
        """Return the seconds from the decision for a phase to the first decision that may leave it."""
        return self._until_decision_s(self.change_s(before, after) + self.least_green_s[after])

    def first_visit_s(self) -> int:
        """Return the seconds from the start, which counts as a change, to the first decision that may leave the first phase."""
        return self._until_decision_s(self.own_change_s + self.least_green_s[self.allowed[0]])

    def _until_decision_s(self, seconds: int) -> int:
        return math.ceil(seconds / self.timing.decision_s) * self.timing.decision_s

    def _for_vehicles(self, state: str) -> str:
        return "".join(char for char, crossing in zip(state, self.is_crossing, strict=True) if not crossing)

    def _early_s(self, before: int, after: int) -> int:
        ending = self.green[before] & ~self.green[after]
        return max(0, int(self._clearance_s[ending].max(initial=0)) - self.intergreen_s[before][after])

    def _between(self, before: str, after: str, vehicles: str) -> str:
        """Return a state between two greens: red on the crossings that lose theirs, `vehicles` on other such links."""
        links = zip(before, after, vehicles, self.is_crossing, strict=True)
        lost = [(old in GREEN and new not in GREEN, "r" if crossing else char) for old, new, char, crossing in links]
        return "".join(char if loses else old for old, (loses, char) in zip(before, lost, strict=True))


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
        self.changes = changes = PhaseChanges(phases, timing, crossings, limits)
        self.phase = changes.allowed[0]
        self.changed_s = start_s
        """When the change to the present phase was decided (the start counts as one, as in sumo-rl)."""
        self._change_s = changes.own_change_s
        self._left_s: float | None = None
        """Since when another program shows none of the phases (`follow`)."""
        self._stages: list[tuple[float, str]] = [(start_s, phases[self.phase])]
        self._only = np.eye(len(phases), dtype=bool)
        self._choices = {phase: self._only[[phase, *onward]].any(axis=0) for phase, onward in changes.onward.items()}
        self._check_intergreen()
        self._shown_since = start_s
        self._ending_s = {phase: self._latest_end_s(phase) for phase in changes.allowed}
        self._check_max_green()
        self.red = LongestRed(name, changes, start_s)
        """The longest red of its links."""

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
        """Return [A] bool: the phases that may be chosen at this decision. At least one always may."""
        if not self.may_change(now):
            return self._only[self.phase]
        choices = self._choices[self.phase]
        legal, shown_until = choices.copy(), self._shown_since + self.changes.most_green_s[self.phase]
        legal[self.phase] &= now + self.timing.decision_s + self._ending_s[self.phase] <= shown_until
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
        """Return how long after the decision to leave a phase vehicles see it at most; 0 where nobody asks."""
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
            least_s, most_s = seconds + self._ending_s[phase], changes.most_green_s[phase]
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
