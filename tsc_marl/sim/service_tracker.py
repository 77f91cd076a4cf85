"""Watches an episode for the service of each movement.

Control delay is the time that a vehicle loses from the last signal, or from its departure, until it has left the junction: in the
junction too it waits for gaps. The time is SUMO's `timeLoss`, and the wait to be inserted. So the time lost at all movements and
behind the last signals is that of SUMO's trips. `timeLoss` is read at each decision; a passage between two of them divides it in
proportion to time.
"""

import itertools
import json
from collections.abc import Iterator, Sequence

import numpy as np

from tsc_marl.sim import lights, metrics, passages
from tsc_marl.sim.engine import HALTING_MS
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.metrics import Trips
from tsc_marl.sim.movements import NetworkMovements
from tsc_marl.sim.passages import Passages
from tsc_marl.sim.service import ALL, BEHIND, Service

NOTHING = Passages((), ())


class ServiceTracker:
    """Keeps time lost and halting of all vehicles at each decision.

    Args:
        env: with a running episode that writes `passages.route_options` and the states of its signals.
        of: the movements of its network.
    """

    def __init__(self, env: TrafficEnv, of: NetworkMovements) -> None:
        self._env, self._of, self._numbers = env, of, dict[str, int]()
        self._seen: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._now_s: list[float] = []

    def update(self) -> None:
        """Look at the vehicles after a decision."""
        seen = self._env.vehicles
        number = np.array([self._numbers.setdefault(name, len(self._numbers)) for name in seen.ids], dtype=int)
        self._seen.append((number, seen.lost_s, seen.speed_ms < HALTING_MS))
        self._now_s.append(self._env.now)

    def services(self) -> list[Service]:
        """Return each approach with its movements behind it, and what lies behind the signals, of the episode that has ended."""
        env, seed = self._env, self._env.episode.seed
        of, now_s = self._of, np.array(self._now_s)
        trips, dropped = metrics.read_record(env.out, seed, len(env.names)).trips, metrics.read_dropped(env.out, seed)
        waiting = json.loads((env.out / f"pending_{seed}.json").read_text(encoding="utf-8"))
        passed = passages.read(passages.route_file(env.out, seed), of.number)
        passed |= {name: passages.ahead(route, of.number) for name, route in waiting.items()}
        scenario = env.scenario
        count, samples = _Counts(len(of.each), now_s, scenario.counted_from_s, scenario.end_s), self._by_vehicle()
        unseen = (np.zeros(0, dtype=int), np.zeros(0), np.zeros(0, dtype=bool))
        for i, name in enumerate(trips.ids):
            if name not in dropped:
                count.add(trips, i, passed.get(name, NOTHING), *samples.get(name, unseen))
        shown = lights.read(env.out / f"tls_{seed}.xml", env.names, scenario.begin_s)
        hours = (scenario.end_s - scenario.counted_from_s) / 3600
        return [*_rows(of, env.names, count, of.capacity_veh_h(shown, scenario.duration_s), hours)]

    def _by_vehicle(self) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return by vehicle the decisions [S] that saw it, the time lost until them [S], and whether it halted [S]."""
        number, lost_s, halts = (np.concatenate(column) for column in zip(*self._seen, strict=True))
        decision = np.repeat(np.arange(len(self._seen)), [len(one) for one, _, _ in self._seen])
        order = np.argsort(number, kind="stable")
        ends = np.cumsum(np.bincount(number, minlength=len(self._numbers)))[:-1]
        columns = (np.split(column[order], ends) for column in (decision, lost_s, halts))
        return dict(zip(self._numbers, zip(*columns, strict=True), strict=True))


class _Counts:
    """Sums over vehicles of each of M movements; the last entry is what belongs to none."""

    def __init__(self, size: int, now_s: np.ndarray, from_s: float, end_s: float) -> None:
        self._now_s, self._counts, self._end_s = now_s, now_s >= from_s, end_s
        self.passed, self.unserved, self.lost_s = np.zeros(size + 1, int), np.zeros(size + 1, int), np.zeros(size + 1)
        self.queue = np.zeros((len(now_s), size + 1), dtype=int)
        """[T, M + 1] vehicles that halt or wait to be inserted at each decision."""

    def add(self, trips: Trips, i: int, passages: Passages, decision: np.ndarray, lost_s: np.ndarray, halts: np.ndarray) -> None:
        """Add vehicle number i of the trips, with the decisions [S] that saw it."""
        second = np.array([time_s for time_s in passages.second if time_s < np.inf])
        n, bound = len(second), np.array([*passages.movement, -1])
        np.add.at(self.passed, bound[:n], 1)
        self.unserved[bound[n:-1]] += 1
        departs_s, waited_s = trips.depart_s[i], trips.depart_delay_s[i]
        self.lost_s[bound[0]] += waited_s
        inserted_s = departs_s if departs_s >= 0 else self._end_s + 1
        self.queue[(self._now_s >= inserted_s - waited_s) & (self._now_s < inserted_s), bound[0]] += 1
        if departs_s < 0:
            return
        times = np.array([departs_s, *self._now_s[decision], departs_s + trips.duration_s[i]])
        so_far = np.interp(second, times, [0.0, *lost_s, trips.time_loss_s[i]])
        np.add.at(self.lost_s, bound[: n + 1], np.diff([0.0, *so_far, trips.time_loss_s[i]]))
        at = np.searchsorted(second, self._now_s[decision[halts]], "right")
        self.queue[decision[halts], bound[at]] += 1

    def of(self, movements: Sequence[int]) -> tuple[int, int, float, float, float, float]:
        """Return vehicles passed and unserved, time lost, and mean, 95 % and largest queue of some movements together."""
        queue, own = self.queue[self._counts][:, movements].sum(axis=1), list(movements)
        sums = (int(self.passed[own].sum()), int(self.unserved[own].sum()), float(self.lost_s[own].sum()))
        return (*sums, float(queue.mean()), float(np.percentile(queue, 95)), float(queue.max()))


def _rows(
    of: NetworkMovements, names: Sequence[str], count: _Counts, capacity_veh_h: np.ndarray, hours: float
) -> Iterator[Service]:
    group = np.array(of.lane_groups())
    came = np.bincount(group, (count.passed + count.unserved)[:-1], minlength=len(group))[group]
    with np.errstate(divide="ignore", invalid="ignore"):
        v_c = came / (capacity_veh_h * hours)
    for road, numbers in itertools.groupby(range(len(of.each)), key=lambda k: of.each[k].road):
        own = list(numbers)
        first = of.each[own[0]]
        place = (names[first.signal], road, first.street, first.approach)
        largest = max((float(v_c[k]) for k in own if not np.isnan(v_c[k])), default=float("nan"))
        yield Service(*place, ALL, *count.of(own), of.storage_veh[road], v_c=largest)
        for k in own:
            yield Service(
                *place, of.each[k].turn, *count.of([k]), of.each[k].storage_veh, float(capacity_veh_h[k]), float(v_c[k])
            )
    yield Service("", "", "", BEHIND, ALL, 0, 0, float(count.lost_s[-1]))
