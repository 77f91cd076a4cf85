"""The longest red of one signal: which phases leave every link its next green in time."""

import numpy as np

from tsc_marl.errors import UserError
from tsc_marl.sim.signal_limits import FIXED, NO_LIMITS, SignalLimits
from tsc_marl.sim.signal_timing import NEVER, PhaseChanges


def greedy_set_cover(serves: np.ndarray, picked: list[int]) -> list[int]:
    """Add rows of [P, L] bool to those picked, greedily, until every column that some row serves is served."""
    missing = serves.any(axis=0) & ~serves[picked].any(axis=0)
    while missing.any():
        picked = [*picked, int((serves & missing).sum(axis=1).argmax())]
        missing = missing & ~serves[picked[-1]]
    return picked


class LongestRed:
    """Keeps `max_red_s` and `max_crossing_red_s`, whichever phases are chosen among those that it allows.

    In a fixed order the phases follow one another as soon as they may. Else a few phases that cover all links are visited by
    earliest deadline. Every visit takes at most the same time, so that is the best order. The phase left behind comes last in it,
    which the check at construction allows; so one choice is always legal.

    Args:
        name: of the signal.
        changes: between its phases.
        start_s: when its first phase, the first allowed one, is shown.

    Raises:
        UserError: when it cannot be kept with these phases.
    """

    def __init__(self, name: str, changes: PhaseChanges, start_s: float) -> None:
        self._name, self._changes, self._timing = name, changes, changes.timing
        self.limit_s, self._limit_name = self._limit()
        """[s]; infinity without a limit."""
        self.is_limited = self.limit_s < NEVER
        """Whether there is a longest red."""
        self._red_since = np.full(changes.green.shape[1], start_s, dtype=float)
        limited = changes.is_crossing | (self._timing.max_red_s is not None)
        allowed = np.isin(np.arange(len(changes.green)), changes.allowed)
        self._limited = changes.green & limited & allowed[:, None]
        self._is_fixed = changes.limits.order == FIXED
        self.waits_s = self._waits_in_order() if self.is_limited and self._is_fixed else {}
        """In a fixed order, [L] seconds from the decision to leave each phase to the next green of a link."""
        self.cover = self._cover_phases() if self.is_limited and not self._is_fixed else []
        """Phases that together serve every link with a limit; none in a fixed order."""

    def restart(self, now: float) -> None:
        """Count the red of all links from now on."""
        self._red_since[:] = now

    def change(self, before: int, after: int, now: float) -> None:
        """Note a change that is decided now."""
        if self.is_limited:
            self._red_since = self._red_after(before, after, now)

    def keeps(self, shown: int, phase: int, now: float) -> bool:
        """Return whether all links can have their next green in time after a choice made now; `shown` means to stay."""
        changes, red_since, then = self._changes, self._red_since, now + self._timing.decision_s
        if phase != shown:
            red_since = self._red_after(shown, phase, now)
            then = now + (changes.visit_s(shown, phase) if self._is_fixed else changes.service_s)
            waiting = self._limited[phase] & ~changes.green[shown]
            if waiting.any() and red_since[waiting].min() + self.limit_s < now + changes.change_s(shown, phase):
                return False
        if self._is_fixed:
            due = self._limited.any(axis=0) & ~self._limited[phase]
            return bool((then + self.waits_s[phase] <= red_since + self.limit_s)[due].all())
        starts = then + changes.longest_s + changes.service_s * np.arange(len(self.cover))
        return bool((starts <= np.sort(self._deadlines(red_since, phase))).all())

    def most_urgent(self, shown: int, legal: np.ndarray) -> int:
        """Return the legal phase that leaves one which is not legal any more."""
        if not self.cover:
            return next(phase for phase in self._changes.onward[shown] if legal[phase])
        choices = [phase for phase in self.cover if legal[phase]]
        urgency = dict(zip(self.cover, self._deadlines(self._red_since, shown), strict=True))
        return min(choices, key=urgency.__getitem__) if choices else int(legal.argmax())

    def _red_after(self, before: int, after: int, now: float) -> np.ndarray:
        """Return [L] since when links are red where a change is decided now."""
        changes, green = self._changes, self._changes.green[before]
        red_since = self._red_since.copy()
        red_since[green] = now + changes.early_s[before][after] + changes.yellow_s(before, after)
        red_since[green & changes.is_crossing] = now
        return red_since

    def _limit(self) -> tuple[float, str]:
        """Return the longest red [s] and its setting: with two limits the shorter holds for all links, so that one order fits."""
        limits = [(float(self._timing.max_red_s or NEVER), "timing.max_red_s")]
        if self._changes.walks.any():
            limits.append((float(self._timing.max_crossing_red_s), "timing.max_crossing_red_s"))
        return min(limits)

    def _check(self, needed_s: int, n: int) -> None:
        if needed_s > self.limit_s:
            loosen = "" if self._changes.limits == NO_LIMITS else f"loosen the limits of {self._name} in scenario.yaml, or "
            raise UserError(
                f"signal {self._name}: {self._limit_name} {self.limit_s:g} cannot be kept: its {n} phases need "
                f"{needed_s} s between two greens of one link; {loosen}raise {self._limit_name} to at least {needed_s}"
            )

    def _cover_phases(self) -> list[int]:
        """Pick few phases that together give every limited link its green, greedily, and check that their cycle fits.

        The first phase is one of them, needed or not: it is shown at the start. Where only crossings are limited, one more
        phase must fit into the cycle, so that vehicles do not wait for ever; so must a second one where a longest green ends
        the first.
        """
        changes = self._changes
        cover = greedy_set_cover(self._limited, [changes.allowed[0]])
        n = len(cover) + (self._timing.max_red_s is None and len(cover) < len(changes.allowed))
        n = max(n, 1 + any(changes.most_green_s[phase] < NEVER for phase in changes.allowed))
        self._check((n - 1) * changes.service_s + changes.longest_s, n)
        return cover

    def _waits_in_order(self) -> dict[int, np.ndarray]:
        """Return [L] seconds from the decision to leave each phase to the next green of a link, each phase as short as it may be.

        That they fit the longest red is checked.
        """
        waits_s, changes, limited = {}, self._changes, self._limited
        for phase in changes.allowed:
            waits_s[phase], before, passed_s = np.full(limited.shape[1], NEVER), phase, 0
            for after in (*SignalLimits(changes.allowed).onward(phase, len(limited)), phase):
                starts_s = np.where(limited[after], passed_s + changes.change_s(before, after), NEVER)
                waits_s[phase] = np.minimum(waits_s[phase], starts_s)
                passed_s += changes.visit_s(before, after)
                before = after
        lost_s = [waits_s[phase][limited[phase] & ~limited[after]].max(initial=0) for phase, (after,) in changes.onward.items()]
        first = changes.allowed[0]
        at_start_s = changes.first_visit_s() + waits_s[first][limited.any(axis=0) & ~limited[first]].max(initial=0)
        self._check(int(max(at_start_s, *lost_s)), len(changes.allowed))
        return waits_s

    def _deadlines(self, red_since: np.ndarray, shown: int) -> list[float]:
        """Return, per cover phase, when its green must start for the links that only it is counted to serve."""
        counted = self._limited[shown].copy()
        deadlines = []
        for phase in self.cover:
            links = self._limited[phase] & ~counted
            deadlines.append(float(red_since[links].min()) + self.limit_s if links.any() else NEVER)
        return deadlines
