"""Check of the lights: networks, policies and timings, second by second, in SUMO's own log of the signals."""

import contextlib
import csv
import functools
import itertools
import logging
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import TextIO

import numpy as np
from rich.table import Table

from tsc_marl import console, controllers
from tsc_marl.config import read_timing
from tsc_marl.controllers import Controller
from tsc_marl.errors import UserError
from tsc_marl.evaluation import phase_log, signal_log, tables
from tsc_marl.evaluation.evaluate import is_refusal
from tsc_marl.evaluation.signal_log import StreetSignals, Violation
from tsc_marl.paths import make_folder
from tsc_marl.rollout.policies import Policy
from tsc_marl.rollout.pool import Failure, Pool
from tsc_marl.rollout.task import Task, check_task
from tsc_marl.rollout.types import Job
from tsc_marl.sim import road_network, signal_limits
from tsc_marl.sim.signal_view import SignalView
from tsc_marl.tracking.policies import find_policy

logger = logging.getLogger(__name__)

RANDOM_REQUESTS = f"{__name__}:RandomRequests"
STREET_PROGRAMS = {"fixed_time": True, "own_program": False}
"""Controllers that show the network file's own programs, and whether by the clock. Our timing is not theirs."""
REPEATS = (0.0, 0.5, 0.95, 1.0)


class RandomRequests(Controller):
    """Any phase at random at every decision, legal or not; some signals repeat their request often, some always."""

    def reset(self, seed: int, view: SignalView) -> None:
        """Draw the first request of each signal, and the probability that it repeats one."""
        self._rng = np.random.default_rng(seed)
        self._n_phases = np.array([len(timer.phases) for timer in view.timers])
        self._repeats = self._rng.choice(REPEATS, size=len(view.timers))
        self._request = self._rng.integers(self._n_phases)

    def act(self, view: SignalView) -> np.ndarray:
        """Return [N] int."""
        again = self._rng.random(len(view.timers)) < self._repeats
        self._request = np.where(again, self._request, self._rng.integers(self._n_phases))
        return self._request


@dataclass(frozen=True)
class Case:
    """A network with a timing and a policy."""

    task: Task
    timing: str
    controller: str
    """Name of the policy."""
    policy: Policy = field(compare=False)

    @property
    def label(self) -> str:
        """Name of the controller in tables."""
        return "random_requests" if self.controller == RANDOM_REQUESTS else self.controller

    @property
    def signal_seconds(self) -> int:
        """Signal-seconds of one episode."""
        scenario = self.task.scenario
        return len(road_network.of(scenario).signals) * scenario.duration_s


@dataclass(frozen=True)
class LightRow:
    """Lights of one episode."""

    network: str
    controller: str
    timing: str
    seed: int
    signal_seconds: int
    changes: int
    """Greens of single links that ended."""
    violations: int


@dataclass(frozen=True)
class ViolationRow:
    """One violation, with its place."""

    network: str
    controller: str
    timing: str
    seed: int
    signal: str
    second: int
    """SUMO's time [s]."""
    rule: str

    def __str__(self) -> str:
        """Return the line that a user reads."""
        played = f"{self.network}, {self.controller}, timing {self.timing}, seed {self.seed}"
        return f"{played}: signal {self.signal}, second {self.second}: {self.rule}"


def cases(networks: Sequence[str], names: Sequence[str], timings: Sequence[str]) -> list[Case]:
    """Return all combinations; without names, all controllers and `RandomRequests`.

    Raises:
        UserError: for an unknown name, or files that cannot be used.
    """
    played = []
    for network, timing in itertools.product(networks, timings):
        task = Task(network, read_timing(timing))
        check_task(task)
        for name in names or (*controllers.available(), RANDOM_REQUESTS):
            policy = find_policy(name, task)
            played.append(Case(policy.task_for(task), timing, name, policy))
    return played


def episodes(played: Sequence[Case], seeds: Sequence[int], signal_seconds: float | None) -> list[tuple[Case, int]]:
    """Return the episodes to play: every case with every seed; with a number of signal-seconds, as many as it takes.

    Then the seeds after the last one follow where needed, and the cases of a seed come in an order drawn by it.
    """
    if signal_seconds is None:
        return [(case, seed) for seed in seeds for case in played]
    chosen: list[tuple[Case, int]] = []
    missing = signal_seconds
    for seed in itertools.chain(seeds, itertools.count(max(seeds) + 1)):
        for i in np.random.default_rng(seed).permutation(len(played)):
            if missing <= 0:
                return chosen
            chosen.append((played[i], seed))
            missing -= played[i].signal_seconds
    return chosen


def run(chosen: Sequence[tuple[Case, int]], out: Path, workers: int) -> None:
    """Play episodes, check the lights of each, and print a table; files go to a folder.

    Args:
        chosen: cases with their seeds.
        out: folder for `lights.csv`, a row an episode, `violations.csv`, and `logs/`, SUMO's files of episodes with violations.
        workers: processes that simulate.

    Raises:
        UserError: at the end, when there were violations, or nothing was checked.
        SystemExit: at the end, when episodes crashed.
    """
    make_folder(out)
    shutil.rmtree(out / "logs", ignore_errors=True)
    with (
        Pool(workers) as pool,
        (out / "lights.csv").open("w", newline="", encoding="utf-8") as lights,
        (out / "violations.csv").open("w", newline="", encoding="utf-8") as violations,
    ):
        check = LightCheck(chosen, out / "logs", lights, violations)
        check.play(pool)
    check.report(out)


class LightCheck:
    """Plays episodes, checks their lights, and writes a row for each at once.

    Args:
        chosen: cases with their seeds.
        logs: folder for SUMO's files.
        lights: file for a row an episode.
        violations: file for a row a violation.
    """

    def __init__(self, chosen: Sequence[tuple[Case, int]], logs: Path, lights: TextIO, violations: TextIO) -> None:
        self._chosen, self._logs = chosen, logs
        self._files = {LightRow: lights, ViolationRow: violations}
        for row, file in self._files.items():
            csv.writer(file).writerow(field.name for field in fields(row))
        self._signals = functools.cache(StreetSignals)
        self._rows: list[LightRow] = []
        self._violations: list[ViolationRow] = []
        self._left_out: set[Case] = set()
        self._crashed = 0

    def play(self, pool: Pool) -> None:
        """Play all episodes."""
        jobs = [Job(i, case.task, case.policy, seed, out=self._logs / str(i)) for i, (case, seed) in enumerate(self._chosen)]
        checked = 0
        with console.progress("lights", len(jobs)) as progress:
            for done, outcome in enumerate(pool.run_with_failures(jobs), 1):
                case, seed = self._chosen[outcome.job.episode]
                if isinstance(outcome, Failure):
                    self._fail(case, seed, outcome.error)
                else:
                    checked += self._check(case, seed, self._logs / str(outcome.job.episode))
                progress.update(done, f"{checked:,} signal-seconds, {len(self._violations)} violations")

    def report(self, out: Path) -> None:
        """Print the table; raise for violations and crashes."""
        with contextlib.suppress(OSError):  # it holds the logs of episodes with violations, if any
            self._logs.rmdir()
        console.show(_table(self._rows))
        console.say(f"every episode: {out / 'lights.csv'}")
        if self._violations:
            first = min(self._violations, key=lambda row: (row.network, row.controller, row.timing, row.seed, row.second))
            where = f"all: {out / 'violations.csv'}, SUMO's logs: {self._logs}"
            raise UserError(f"{len(self._violations)} violations of the lights; the first: {first}; {where}")
        if self._crashed:
            raise SystemExit(f"{self._crashed} episodes failed (see above); they are missing in {out}")
        if not self._rows:
            raise UserError("no lights were checked: no controller serves these networks with these timings")

    def _check(self, case: Case, seed: int, folder: Path) -> int:
        """Check an episode's log; return its signal-seconds. The log stays where something is wrong."""
        logged = signal_log.read(folder / f"tls_{seed}.xml")
        seconds = sum(map(len, logged.values()))
        if seconds != case.signal_seconds:
            raise RuntimeError(f"{folder}: SUMO logged {seconds} signal-seconds of {case.signal_seconds}")
        played = (case.task.network, case.label, case.timing, seed)
        begin_s = case.task.scenario.begin_s
        wrong = [
            ViolationRow(*played, signal, begin_s + violation.second, violation.rule)
            for signal, states in logged.items()
            for violation in self._violations_of(case, signal, states)
        ]
        changes = sum(map(signal_log.greens_ended, logged.values()))
        self._rows.append(LightRow(*played, seconds, changes, len(wrong)))
        self._violations += wrong
        self._write(self._rows[-1:] + wrong)
        if not wrong:
            shutil.rmtree(folder)
        return seconds

    def _violations_of(self, case: Case, signal: str, states: Sequence[str]) -> Iterator[Violation]:
        street = self._signals(case.task.scenario.net, case.task.scenario.additional)
        yield from street.violations(signal, states)
        by_the_clock = STREET_PROGRAMS.get(case.controller)
        if by_the_clock is None:
            cut = controllers.exists(case.controller) and controllers.find(case.controller).sumo_controlled
            limits, crossings_m = signal_limits.of_signal(case.task.scenario.limits, signal), street.crossings_m[signal]
            yield from signal_log.timing_violations(states, case.task.timing, cut, crossings_m, limits)
            if limits != signal_limits.NO_LIMITS:
                phases = next(own.phases for own in road_network.of(case.task.scenario).signals if own.name == signal)
                yield from phase_log.limit_violations(states, phases, limits, case.task.timing, crossings_m, cut)
        else:
            yield from street.program_violations(signal, states, case.task.scenario.begin_s, by_the_clock)

    def _fail(self, case: Case, seed: int, error: Exception) -> None:
        if not is_refusal(error):
            self._crashed += 1
            last = str(error).strip().splitlines()[-1]
            logger.warning(f"{case.task.network}: the episode of {case.label} with seed {seed} failed: {last}; the others go on")
        elif case not in self._left_out:
            self._left_out.add(case)
            logger.warning(f"{case.task.network}: {case.label} is left out with timing {case.timing}: {error}")

    def _write(self, rows: Sequence[LightRow | ViolationRow]) -> None:
        for row in rows:
            csv.writer(self._files[type(row)]).writerow(astuple(row))
        for file in self._files.values():
            file.flush()


def _table(rows: Sequence[LightRow]) -> Table:
    """Return a table with a row for each network, controller and timing, and their sum."""
    families: dict[tuple[str, ...], list[LightRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.network, row.controller, row.timing, row.seed)):
        families[row.network, row.controller, row.timing].append(row)
    lines = [
        {"network": network, "controller": controller, "timing": timing, "seeds": _ranges([row.seed for row in some])}
        | _sum(some)
        for (network, controller, timing), some in families.items()
    ]
    columns = [tables.Column(key, key) for key in ("network", "controller", "timing", "seeds")]
    columns += [tables.Column(key, key.replace("_", "-"), "{:,}".format) for key in ("signal_seconds", "changes", "violations")]
    return tables.terminal_table("lights, every second in SUMO's log", columns, [*lines, {"network": "total"} | _sum(rows)])


def _sum(rows: Sequence[LightRow]) -> dict[str, int]:
    return {key: sum(getattr(row, key) for row in rows) for key in ("signal_seconds", "changes", "violations")}


def _ranges(seeds: Sequence[int]) -> str:
    """Return sorted seeds in short.

    >>> _ranges([1000, 1001, 1002, 7000])
    '1000 .. 1002, 7000'
    """
    runs = [[n for _, n in some] for _, some in itertools.groupby(enumerate(seeds), lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} .. {run[-1]}" for run in runs)
