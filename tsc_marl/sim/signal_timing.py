"""Signal timing, and what a signal shows between its phases."""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tsc_marl.bounds import Count, NaturalNumber, Positive, check
from tsc_marl.errors import UserError
from tsc_marl.sim.signal_limits import NO_LIMITS, SignalLimits, each

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
    priority: Literal["none", "emergency", "transit", "all"] = "none"
    """Which vehicles get green as soon as it is legal: emergency vehicles, public transport, both, or none."""

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
        self._stages = functools.cache(self._make_stages)

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
        return list(self._stages(before, after))

    def _make_stages(self, before: int, after: int) -> list[tuple[int, str]]:
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


@functools.lru_cache(maxsize=4096)
def phase_changes(
    phases: tuple[str, ...], timing: Timing, crossings: tuple[Crossing, ...] = (), limits: SignalLimits = NO_LIMITS
) -> PhaseChanges:
    """Return the changes of a signal; signals that are alike share them."""
    return PhaseChanges(phases, timing, crossings, limits)
