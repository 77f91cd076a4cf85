"""The timing state machine of one signal: what it may show now, and what it shows on the way there.

It is the only writer of lights. Whatever a policy asks, a green lasts at least `min_green_s`, every link that loses
its green shows yellow for exactly `yellow_s` and red for `all_red_s` before the next green starts, and no link stays
red longer than `max_red_s` where that is set.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tsc_marl.bounds import Count, NaturalNumber, check
from tsc_marl.errors import UserError

GREEN = frozenset("Gg")
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

    @property
    def min_service_s(self) -> int:
        """Seconds from the decision for a phase to the first decision that may leave it."""
        return math.ceil((self.change_s + self.min_green_s) / self.decision_s) * self.decision_s


@functools.cache
def transition(before: str, after: str, char: str) -> str:
    """Return the state between two greens: `char` on the links that lose theirs, the others as before."""
    links = zip(before, after, strict=True)
    return "".join(char if old in GREEN and new not in GREEN else old for old, new in links)


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
        UserError: at construction, when `max_red_s` cannot be kept with this many phases.
    """

    def __init__(self, name: str, phases: tuple[str, ...], timing: Timing, start_s: float) -> None:
        self.name, self.phases, self.timing = name, phases, timing
        self.phase = 0
        self.changed_s = start_s
        """When the change to the present phase was decided (the start counts as one, as in sumo-rl)."""
        self._stages: list[tuple[float, str]] = [(start_s, phases[0])]
        self._any = np.ones(len(phases), dtype=bool)
        self._only = np.eye(len(phases), dtype=bool)
        self._green = np.array([[char in GREEN for char in state] for state in phases])
        self._red_since = np.full(len(phases[0]), start_s, dtype=float)
        self._cover = self._cover_phases() if timing.max_red_s is not None else []

    def since_change_s(self, now: float) -> float:
        """Return the seconds since the last change was decided."""
        return now - self.changed_s

    def may_change(self, now: float) -> bool:
        """Return whether the minimum green has passed."""
        return now - self.changed_s >= self.timing.change_s + self.timing.min_green_s

    def legal(self, now: float) -> np.ndarray:
        """Return [A] bool: the phases that may be chosen at this decision. At least one always may."""
        if not self.may_change(now):
            return self._only[self.phase]
        if self.timing.max_red_s is None:
            return self._any
        return np.array([self._keeps_max_red(phase, now) for phase in range(len(self.phases))])

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

    def _change(self, phase: int, now: float) -> None:
        before, after = self.phases[self.phase], self.phases[phase]
        if self.timing.yellow_s:
            self._stages.append((now, transition(before, after, "y")))
        if self.timing.all_red_s:
            self._stages.append((now + self.timing.yellow_s, transition(before, after, "r")))
        self._stages.append((now + self.timing.change_s, after))
        self._red_since[self._green[self.phase]] = now + self.timing.yellow_s
        self.phase, self.changed_s = phase, now

    def _cover_phases(self) -> list[int]:
        """Pick few phases that together give every link its green, greedily, and check that their cycle fits.

        The first phase is one of them, needed or not: it is shown at the start.
        """
        cover = greedy_set_cover(self._green, [0])
        cycle_s = (len(cover) - 1) * self.timing.min_service_s + self.timing.change_s
        limit_s = self.timing.max_red_s
        if limit_s is not None and cycle_s > limit_s:
            raise UserError(
                f"signal {self.name}: timing.max_red_s {limit_s} cannot be kept: its {len(cover)} phases need "
                f"{cycle_s} s between two greens of one link; raise timing.max_red_s to at least {cycle_s}"
            )
        return cover

    def _deadlines(self, red_since: np.ndarray, shown: int) -> list[float]:
        """Return, per cover phase, when its green must start for the links that only it is counted to serve."""
        limit_s = float(self.timing.max_red_s or NEVER)
        counted = self._green[shown].copy()
        deadlines = []
        for phase in self._cover:
            links = self._green[phase] & ~counted
            deadlines.append(float(red_since[links].min()) + limit_s if links.any() else NEVER)
        return deadlines

    def _keeps_max_red(self, phase: int, now: float) -> bool:
        """Return whether, after this choice, visiting the cover phases by earliest deadline still meets them all.

        Every visit takes the same time, so the earliest deadline first is the best order. The phase left behind comes
        last in it, which the check at construction allows; so one choice is always legal.
        """
        red_since, then = self._red_since, now + self.timing.decision_s
        if phase != self.phase:
            red_since, then = red_since.copy(), now + self.timing.min_service_s
            red_since[self._green[self.phase]] = now + self.timing.yellow_s
            waiting = self._green[phase] & ~self._green[self.phase]
            if waiting.any() and red_since[waiting].min() + (self.timing.max_red_s or NEVER) < now + self.timing.change_s:
                return False
        starts = then + self.timing.change_s + self.timing.min_service_s * np.arange(len(self._cover))
        return bool((starts <= np.sort(self._deadlines(red_since, phase))).all())

    def _most_urgent(self, legal: np.ndarray) -> int:
        choices = [phase for phase in self._cover if legal[phase]]
        urgency = dict(zip(self._cover, self._deadlines(self._red_since, self.phase), strict=True))
        return min(choices, key=urgency.__getitem__) if choices else int(legal.argmax())


def legal_phases(timers: Sequence[SignalTimer], now: float) -> np.ndarray:
    """Return the phases that may be requested now, [N, A] bool; phases that a signal does not have are False."""
    mask = np.zeros((len(timers), max(len(timer.phases) for timer in timers)), dtype=bool)
    for row, timer in zip(mask, timers, strict=True):
        row[: len(timer.phases)] = timer.legal(now)
    return mask
