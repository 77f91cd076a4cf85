"""Locks: vehicles that stand for minutes, since when, and what holds them: each other, a red that does not end, or no gap."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from tsc_marl.sim.blockers import STOPPED, StandingVehicle, circles, junction_ways, standing
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.signal_timing import GREEN

BLOCKS_S = 60.0
"""A vehicle that has stood for less holds up nobody for minutes."""
SAME_S = 1.0
CIRCLE, STARVED, NO_GAP, QUEUE, STOP = "circle", "starved", "no gap", "queue", "stop"


@dataclass
class Lock:
    """Vehicles that stand for long, and the first of them, which hold up all others."""

    cause: str
    """Why the first of them stands.

    | cause | meaning |
    |---|---|
    | circle | the first vehicles block each other |
    | starved | its link had no green |
    | no gap | it had green, or needs none, and gives way all the time |
    | queue | one ahead of it stands too, but came a moment ago |
    | stop | it has a stop of its own, such as a breakdown |
    """
    first: tuple[str, ...]
    since_s: float
    """Since when the first ones all stand, from the start of the window."""
    seen_s: float
    """When a vehicle had stood long enough."""
    vehicles: dict[str, StandingVehicle]
    """All that stand in this lock at that moment, by name."""
    signal: str = ""
    """The signal in front of the first vehicle, and its link there."""
    link: int = -1
    green_s: float = 0.0
    """How long that link had green while the vehicle stood."""
    shown_s: Mapping[int, float] = field(default_factory=dict)
    """How long each phase was shown meanwhile."""
    until_s: float | None = None
    """When all that were seen have moved on; None if never."""
    held_at_end: int = 0
    """Vehicles that stand in it at the end of the episode."""

    def become(self, other: "Lock") -> "Lock":
        """Take over what another says of the same vehicles: a queue has closed to a circle."""
        vars(self).update(vars(other))
        return self

    @property
    def junctions(self) -> list[str]:
        """The junctions inside which its first vehicles stand."""
        return sorted({self.vehicles[name].junction for name in self.first} - {""})


class LockTracker:
    """Watches an episode for locks.

    Attributes:
        locks: those so far.

    Args:
        env: an environment with a running episode.
        after_s: how long a vehicle stands before that is a lock.
    """

    def __init__(self, env: TrafficEnv, after_s: float) -> None:
        self.locks: list[Lock] = []
        self._env, self._after_s = env, after_s
        self._ways, self._lanes = junction_ways(env.scenario.net), list(env.net.lane_index)
        self._seen: dict[tuple[str, float], Lock] = {}
        self._phases: list[tuple[float, tuple[int, ...]]] = []

    def update(self) -> None:
        """Look at the vehicles after a decision; at the end of the window, count those that are held."""
        now_s, vehicles = self._env.now - self._env.scenario.begin_s, self._env.vehicles
        self._phases.append((now_s, tuple(timer.phase for timer in self._env.timers)))
        stuck = {
            (vehicles.ids[i], now_s - vehicles.waiting_s[i]) for i in np.flatnonzero(vehicles.waiting_s >= self._after_s).tolist()
        }
        on = {id(self._seen[key]) for key in stuck if key in self._seen}
        for lock in self.locks:
            if lock.until_s is None and id(lock) not in on:
                lock.until_s = now_s
        ended = self._env.now >= self._env.scenario.end_s
        if stuck - self._seen.keys() or (ended and on):
            self._look(stuck, now_s, ended)

    def _look(self, stuck: set[tuple[str, float]], now_s: float, ended: bool) -> None:
        here = standing(self._ways, self._lanes, self._env.vehicles, self._env.engine.api.vehicle)
        groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for name, first in _first_of(here).items():
            groups[first].append(name)
        for first, names in groups.items():
            keys = {(name, since_s) for name, since_s in stuck if name in names and here[name].hold.reason != STOPPED}
            if not keys:
                continue
            known = (self._seen[key] for key in sorted(keys) if key in self._seen)
            lock = next((lock for lock in known if lock.until_s is None), None)
            if lock is None or (len(first) > 1 and lock.cause != CIRCLE):
                new = self._new(first, {name: here[name] for name in names}, now_s)
                lock = self._add(new) if lock is None else lock.become(new)
            self._seen |= dict.fromkeys(keys, lock)
            if ended:
                lock.held_at_end += len(names)

    def _add(self, lock: Lock) -> Lock:
        self.locks.append(lock)
        return lock

    def _new(self, first: tuple[str, ...], vehicles: dict[str, StandingVehicle], now_s: float) -> Lock:
        head, hold = vehicles[first[0]], vehicles[first[0]].hold
        cause = CIRCLE if len(first) > 1 else STOP if hold.reason == STOPPED else QUEUE if hold.blockers else NO_GAP
        of_first = [vehicles[name].waiting_s for name in first]
        standing_s = max(vehicle.waiting_s for vehicle in vehicles.values()) if cause == STOP else min(of_first)
        times = {"since_s": now_s - standing_s, "seen_s": now_s, "vehicles": vehicles}
        if cause != NO_GAP:
            return Lock(cause, first, **times)
        if hold.signal not in self._env.names:
            return Lock(NO_GAP, first, **times, signal=hold.signal, link=hold.link)
        shown_s = self._shown_s(hold.signal, now_s - head.waiting_s)
        states = self._env.net.signals[self._env.names.index(hold.signal)].phases
        green_s = sum(seconds for phase, seconds in shown_s.items() if states[phase][hold.link] in GREEN)
        cause = NO_GAP if green_s else STARVED
        return Lock(cause, first, **times, signal=hold.signal, link=hold.link, green_s=green_s, shown_s=shown_s)

    def _shown_s(self, signal: str, from_s: float) -> dict[int, float]:
        """Return how long each phase of a signal was shown since a time, from decision to decision."""
        number, every_s = self._env.names.index(signal), float(self._env.timing.decision_s)
        counts = Counter(phases[number] for time_s, phases in self._phases if time_s > from_s)
        return {phase: count * every_s for phase, count in sorted(counts.items())}


def _first_of(here: Mapping[str, StandingVehicle]) -> dict[str, tuple[str, ...]]:
    """Return for each vehicle those that hold it up in the end: a circle, or the one in front that nobody blocks."""
    long = {name for name, vehicle in here.items() if vehicle.waiting_s >= BLOCKS_S or vehicle.hold.reason == STOPPED}
    blockers = {name: [other for other in here[name].hold.blockers if other in long] for name in here}
    circle_of = {name: circle for circle in reversed(circles(blockers)) for name in circle}
    return {name: _follow(name, blockers, circle_of) for name in here}


def _follow(name: str, blockers: Mapping[str, Iterable[str]], circle_of: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    reached, last = [name], name
    for last in reached:
        if last in circle_of:
            return circle_of[last]
        reached += [other for other in blockers[last] if other not in reached]
    return (last,)
