"""Worker processes on this machine: each plays one episode, and sends one message per job."""

import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from tsc_marl.errors import UserError
from tsc_marl.paths import temporary_folder
from tsc_marl.rollout import interrupts
from tsc_marl.rollout.process import ADVICE, WorkerDiedError, WorkerHandle
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import Job, RolloutResult
from tsc_marl.types import Spec

logger = logging.getLogger(__name__)

MAX_DEATHS = 3
"""Deaths of workers in a row on one episode, after which the run ends."""
LOOK_S = 1.0
"""Time between two looks for a stop while the workers play."""
LOST = "lost"
"""Kind of the answer of a worker whose machine is gone; the value says which."""


@dataclass(frozen=True)
class Failure:
    """A job without a result."""

    job: Job
    error: Exception


class Pool:
    """Worker processes, a new one for each episode.

    The rollouts of an episode go to the same process, in which its simulation is paused between them.

    Args:
        size: number of processes that work at once.
        concurrent_episodes: number of episodes that are played in turns, rollout by rollout; each needs a process.

    Raises:
        UserError: for a size below 1.
    """

    def __init__(self, size: int, concurrent_episodes: int = 1) -> None:
        if size < 1:
            raise UserError(f"workers must be at least 1; got {size}")
        self._size = size
        self._folder = temporary_folder()
        self._workers = self._start(max(size, concurrent_episodes))

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, number: int) -> list[Any]:
        """Return the first workers: `WorkerHandle`, or what has its methods."""
        return [WorkerHandle(self._folder.name) for _ in range(number)]

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid or 0 for worker in self._workers]

    def read_spec(self, task: Task) -> Spec:
        """Return the sizes and neighbours of a task's network, which an algorithm needs; errors as of `read_specs`."""
        return self.read_specs([task])[0]

    def read_specs(self, tasks: Sequence[Task], watch: Callable[[], None] = lambda: None) -> list[Spec]:
        """Return the sizes and neighbours of each task's network, read side by side; `watch` is called after each.

        Raises:
            WorkerDiedError: after `MAX_DEATHS` deaths in a row, or when a disk is full.
            UserError: when the files of a network cannot be used.
        """
        waiting, deaths = deque(range(len(tasks))), Counter[int]()
        reading: dict[Any, int] = {}
        specs: dict[int, Spec] = {}
        try:
            while waiting or reading:
                interrupts.check()
                self._expect(len(waiting) + len(reading))
                idle = [worker for worker in self._workers[: self._size] if worker not in reading]
                for worker in idle[: len(waiting)]:
                    reading[worker] = waiting.popleft()
                    worker.ask_spec(tasks[reading[worker]])
                for worker in self._ready(reading):
                    i = reading.pop(worker)
                    answer = worker.spec()
                    if answer is not None and answer[0] != LOST:
                        specs[i] = _spec(answer)
                        watch()
                        continue
                    deaths[i] += answer is None
                    if deaths[i] == MAX_DEATHS:
                        raise _died(f"while reading {tasks[i].network}")
                    waiting.appendleft(i)
                    logger.warning(_again(answer, f"while reading {tasks[i].network}", "it is read again"))
        finally:
            for worker in reading:
                worker.stop()
        return [specs[i] for i in range(len(tasks))]

    def run(self, jobs: Iterable[Job]) -> Iterator[RolloutResult]:
        """Play all jobs and yield their results as they end, in any order.

        Raises:
            WorkerDiedError: after `MAX_DEATHS` deaths in a row on one episode, or when a disk is full.
            UserError: for an error in the user's files.
            RuntimeError: any other error of a worker, with its traceback.
        """
        with contextlib.closing(self.run_with_failures(jobs)) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, Failure):
                    raise outcome.error
                yield outcome

    def run_with_failures(self, jobs: Iterable[Job]) -> Generator[RolloutResult | Failure, None, None]:
        """Play all jobs and yield the result or failure of each, in any order.

        A worker that dies is replaced and its episode played again with the same seeds, `MAX_DEATHS` times at most. The loss of a
        whole machine does not count: no episode is to blame for it.
        """
        waiting, deaths = deque(jobs), Counter[int]()
        try:
            while waiting or any(worker.job for worker in self._workers):
                interrupts.check()
                self._expect(len(waiting) + sum(worker.job is not None for worker in self._workers))
                self._assign(waiting)
                for worker in self._ready([worker for worker in self._workers if worker.job is not None]):
                    job, answer = worker.result()
                    if answer is not None and answer[0] != LOST:
                        yield _outcome(job, answer)
                        continue
                    deaths[id(job)] += answer is None
                    if deaths[id(job)] == MAX_DEATHS:
                        yield Failure(job, _died(f"on episode {job.episode}"))
                        continue
                    waiting.appendleft(job)
                    logger.warning(_again(answer, f"on episode {job.episode}", "the episode is played again"))
        finally:
            for worker in list(self._workers):
                if worker.job is not None:
                    worker.stop()

    def _expect(self, jobs: int) -> None:
        """Get workers for so many jobs; those of this machine are there from the start."""

    def _assign(self, waiting: deque[Job]) -> None:
        for _ in range(len(waiting)):
            job = waiting.popleft()
            worker = self._worker_for(job)
            if worker is None:
                waiting.append(job)
            else:
                worker.submit(job)

    def _worker_for(self, job: Job) -> Any | None:
        free = [worker for worker in self._workers if worker.job is None]
        if len(self._workers) - len(free) >= self._size:
            return None
        fitting = [self._workers[job.episode % len(self._workers)]] if job.rollout_length else free
        return next((worker for worker in fitting if worker in free), None)

    def close(self) -> None:
        """End all workers."""
        for worker in list(self._workers):
            worker.stop()
        self._folder.cleanup()

    def _ready(self, busy: Iterable[Any]) -> list[Any]:
        """Wait for answers, and return the workers that have one or have died; none after `LOOK_S`."""
        busy = list(busy)
        done = set(wait([x for worker in busy for x in (worker.connection, worker.process.sentinel)], LOOK_S))
        return [worker for worker in busy if {worker.connection, worker.process.sentinel} & done]


def _spec(answer: tuple[str, Any]) -> Spec:
    kind, value = answer
    if kind != "ok":
        raise _error(kind, value)
    return value


def _outcome(job: Job, answer: tuple[str, Any]) -> RolloutResult | Failure:
    kind, value = answer
    return value if kind == "ok" else Failure(job, _error(kind, value))


def _error(kind: str, text: str) -> Exception:
    if kind == "system_error":
        return WorkerDiedError(text)
    return UserError(text) if kind == "user_error" else RuntimeError(f"a worker process failed:\n{text}")


def _again(answer: tuple[str, Any] | None, where: str, what: str) -> str:
    return f"a worker process died {where}; restarted, {what}" if answer is None else f"{answer[1]} {where}; {what} elsewhere"


def _died(where: str) -> WorkerDiedError:
    return WorkerDiedError(f"worker processes died {MAX_DEATHS} times in a row {where}; {ADVICE}")
