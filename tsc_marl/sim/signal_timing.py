"""The timing state machine of one signal: what it may show now, and what it shows on the way there.

It is the only writer of lights. Whatever a policy asks, a green lasts at least `min_green_s`, every link that loses
its green shows yellow for exactly `yellow_s` and red for `all_red_s` before the next green starts, and no link stays
red longer than `max_red_s` where that is set. A crossing is green for at least `min_walk_s`, knows no yellow, and is red for
as long as a person needs to walk over it before the next green starts; no crossing stays red longer than `max_crossing_red_s`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tsc_marl.bounds import Count, NaturalNumber, Positive, check
from tsc_marl.errors import UserError

GREEN = frozenset("Gg")
CHANGE = frozenset("yYu")
"""Yellow, whatever the right of way, and red-yellow."""
NEVER = math.inf


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
    """

    def __init__(self, phases: Sequence[str], timing: Timing, crossings: Sequence[Crossing] = ()) -> None:
        self.phases, self.timing = phases, timing
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
        self.least_green_s = np.maximum(timing.min_green_s, walk_s).tolist()
        """[P] seconds that a phase lasts at least."""
        self.early_s = [[self._early_s(p, q) for q in range(len(phases))] for p in range(len(phases))]
        """[P, P] seconds by which crossings turn red before vehicles turn yellow, from one phase to another."""
        self.longest_s = max(map(max, self.early_s)) + timing.change_s
        """The longest change."""

    def change_s(self, before: int, after: int) -> int:
        """Return the seconds from the end of one phase to the start of another."""
        return self.early_s[before][after] + self.timing.change_s

    def stages(self, before: int, after: int) -> list[tuple[int, str]]:
        """Return seconds and state of what is shown between two phases, one after the other."""
        timing, states = self.timing, (self.phases[before], self.phases[after])
        stages = [
            (self.early_s[before][after], self._between(*states, states[0])),
            (timing.yellow_s, self._between(*states, "y" * len(states[0]))),
            (timing.all_red_s, self._between(*states, "r" * len(states[0]))),
        ]
        return [(seconds, state) for seconds, state in stages if seconds]

    def _early_s(self, before: int, after: int) -> int:
        ending = self.green[before] & ~self.green[after]
        return max(0, int(self._clearance_s[ending].max(initial=0)) - self.timing.change_s)

    def _between(self, before: str, after: str, vehicles: str) -> str:
        """Return a state between two greens: red on the crossings that lose theirs, `vehicles` on other such links."""
        links = zip(before, after, vehicles, self.is_crossing, strict=True)
        lost = [(old in GREEN and new not in GREEN, "r" if crossing else char) for old, new, char, crossing in links]
        return "".join(char if loses else old for old, (loses, char) in zip(before, lost, strict=True))


def greedy_set_cover(serves: np.ndarray, picked: list[int]) -> list[int]:
    """Add rows of [P, L] bool to those picked, greedily, until every column that some row serves is served."""
    missing = serves.any(axis=0) & ~serves[picked].any(axis=0)
    while missing.any():
        picked = [*picked, int((serves & missing).sum(axis=1).argmax())]
        missing = missing & ~serves[picked[-1]]
    return picked


class SignalTimer:
    """One signal's state machine. Times are SUMO seconds; decisions fall on multiples of `decision_s` from `start_s`.

    Raises:
        UserError: at construction, when `max_red_s` or `max_crossing_red_s` cannot be kept with this many phases.
    """

    def __init__(
        self, name: str, phases: tuple[str, ...], timing: Timing, start_s: float, crossings: Sequence[Crossing] = ()
    ) -> None:  # fmt: skip
        self.name, self.phases, self.timing = name, phases, timing
        self.phase = 0
        self.changed_s = start_s
        """When the change to the present phase was decided (the start counts as one, as in sumo-rl)."""
        self.changes = PhaseChanges(phases, timing, crossings)
        self._change_s = timing.change_s
        self._left_s: float | None = None
        """Since when another program shows none of the phases (`follow`)."""
        self._stages: list[tuple[float, str]] = [(start_s, phases[0])]
        self._any = np.ones(len(phases), dtype=bool)
        self._only = np.eye(len(phases), dtype=bool)
        self._red_since = np.full(len(phases[0]), start_s, dtype=float)
        self.limit_s, self._limit_name = self._longest_red()
        """The longest red [s]; infinity without one."""
        limited = self.changes.is_crossing if timing.max_red_s is None else np.ones(len(phases[0]), dtype=bool)
        self._limited = self.changes.green & limited
        self.service_s = math.ceil((self.changes.longest_s + max(self.changes.least_green_s)) / timing.decision_s)
        self.service_s *= timing.decision_s
        """Seconds from the decision for a phase to the first decision that may leave it, at most."""
        self.cover = self._cover_phases() if self.limit_s < NEVER else []
        """Phases that together serve every link with a longest red."""

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
        if not self.cover:
            return self._any
        mask = np.array([self._keeps_max_red(phase, now) for phase in range(len(self.phases))])
        return mask if mask.any() else self._any  # none where another program has shown the phases (`follow`)

    def request(self, phase: int, now: float) -> int:
        """Ask for a phase; return the one that is executed: the nearest legal choice is to stay."""
        legal = self.legal(now)
        if not legal[phase]:
            phase = self.phase if legal[self.phase] else self._most_urgent(legal)
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
        """Take in what another program shows, second by second; return whether it is a phase.

        The change to it began when the last phase ended. The longest red counts from now on.
        """
        self._stages.clear()
        self._red_since[:] = now
        if self._left_s is None and state != self.phases[self.phase]:
            self._left_s = now
        if state not in self.phases:
            return False
        if self._left_s is not None:
            self.phase = self.phases.index(state)
            self.changed_s, self._change_s, self._left_s = self._left_s, int(now - self._left_s), None
        return True

    def _change(self, phase: int, now: float) -> None:
        start = now
        for seconds, state in self.changes.stages(self.phase, phase):
            self._stages.append((start, state))
            start += seconds
        self._stages.append((start, self.phases[phase]))
        self._red_since = self._red_after(phase, now)
        self.phase, self.changed_s, self._change_s = phase, now, self.changes.change_s(self.phase, phase)

    def _red_after(self, phase: int, now: float) -> np.ndarray:
        """Return [L] since when links are red where the change to a phase is decided now."""
        changes, green = self.changes, self.changes.green[self.phase]
        red_since = self._red_since.copy()
        red_since[green] = now + changes.early_s[self.phase][phase] + self.timing.yellow_s
        red_since[green & changes.is_crossing] = now
        return red_since

    def _longest_red(self) -> tuple[float, str]:
        """Return the longest red [s] and its setting: with two limits the shorter holds for all links, so that one order fits."""
        limits = [(float(self.timing.max_red_s or NEVER), "timing.max_red_s")]
        if self.changes.walks.any():
            limits.append((float(self.timing.max_crossing_red_s), "timing.max_crossing_red_s"))
        return min(limits)

    def _cover_phases(self) -> list[int]:
        """Pick few phases that together give every limited link its green, greedily, and check that their cycle fits.

        The first phase is one of them, needed or not: it is shown at the start. Where only crossings are limited, one more
        phase must fit into the cycle, so that vehicles do not wait for ever.
        """
        cover = greedy_set_cover(self._limited, [0])
        n = len(cover) + (self.timing.max_red_s is None and len(cover) < len(self.phases))
        cycle_s = (n - 1) * self.service_s + self.changes.longest_s
        if cycle_s > self.limit_s:
            raise UserError(
                f"signal {self.name}: {self._limit_name} {self.limit_s:g} cannot be kept: its {n} phases need "
                f"{cycle_s} s between two greens of one link; raise {self._limit_name} to at least {cycle_s}"
            )
        return cover

    def _deadlines(self, red_since: np.ndarray, shown: int) -> list[float]:
        """Return, per cover phase, when its green must start for the links that only it is counted to serve."""
        counted = self._limited[shown].copy()
        deadlines = []
        for phase in self.cover:
            links = self._limited[phase] & ~counted
            deadlines.append(float(red_since[links].min()) + self.limit_s if links.any() else NEVER)
        return deadlines

    def _keeps_max_red(self, phase: int, now: float) -> bool:
        """Return whether, after this choice, visiting the cover phases by earliest deadline still meets them all.

        Every visit takes at most the same time, so the earliest deadline first is the best order. The phase left behind comes
        last in it, which the check at construction allows; so one choice is always legal.
        """
        red_since, then = self._red_since, now + self.timing.decision_s
        if phase != self.phase:
            red_since, then = self._red_after(phase, now), now + self.service_s
            waiting = self._limited[phase] & ~self.changes.green[self.phase]
            start = now + self.changes.change_s(self.phase, phase)
            if waiting.any() and red_since[waiting].min() + self.limit_s < start:
                return False
        starts = then + self.changes.longest_s + self.service_s * np.arange(len(self.cover))
        return bool((starts <= np.sort(self._deadlines(red_since, phase))).all())

    def _most_urgent(self, legal: np.ndarray) -> int:
        choices = [phase for phase in self.cover if legal[phase]]
        urgency = dict(zip(self.cover, self._deadlines(self._red_since, self.phase), strict=True))
        return min(choices, key=urgency.__getitem__) if choices else int(legal.argmax())


def legal_phases(timers: Sequence[SignalTimer], now: float) -> np.ndarray:
    """Return the phases that may be requested now, [N, A] bool; phases that a signal does not have are False."""
    mask = np.zeros((len(timers), max(len(timer.phases) for timer in timers)), dtype=bool)
    for row, timer in zip(mask, timers, strict=True):
        row[: len(timer.phases)] = timer.legal(now)
    return mask
