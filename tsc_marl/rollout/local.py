"""Worker processes on this machine: each owns one SUMO and one copy of the policy, and sends one message per episode."""

import contextlib
import multiprocessing
import pickle
import signal
import tempfile
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from tsc_marl.errors import UserError
from tsc_marl.rollout.worker import Episode, Job, Task, Worker, probe
from tsc_marl.types import Spec

DEATHS = 3
"""So many deaths of workers in a row on one episode end the run."""
ADVICE = "if memory ran out, use fewer --workers"


class WorkerDiedError(UserError):
    """Worker processes died again and again at the same place; out of memory is the usual reason."""


@dataclass(frozen=True)
class Failure:
    """A job that came to nothing."""

    job: Job
    error: Exception


class Pool:
    """Worker processes. `spawn`, never `fork`: libsumo keeps state that must not be copied.

    Args:
        size: number of processes.
        say: told, in one line, when a worker had to be replaced.

    Raises:
        UserError: for a size below 1.
    """

    def __init__(self, size: int, say: Callable[[str], None] = print) -> None:
        if size < 1:
            raise UserError(f"workers must be at least 1; got {size}")
        self._say = say
        self._folder = tempfile.TemporaryDirectory(prefix="tsc_marl_", ignore_cleanup_errors=True)
        self._members = [_Member(self._folder.name) for _ in range(size)]

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [member.process.pid or 0 for member in self._members]

    def probe(self, task: Task) -> Spec:
        """Return what an algorithm must know of a task.

        Raises:
            WorkerDiedError: after `DEATHS` deaths in a row.
            UserError: when the network's files cannot be used.
        """
        member = self._members[0]
        for _ in range(DEATHS):
            try:
                _send(member.connection, task)
                answer = _receive(member.connection)
            except (EOFError, OSError):
                member.restart()
                self._say(f"a worker process died while reading {task.network}; restarted")
            else:
                kind, value = answer
                if kind != "ok":
                    raise _error(kind, value)
                return value
        raise _died(f"while reading {task.network}")

    def run(self, jobs: Iterable[Job]) -> Iterator[Episode]:
        """Play all jobs and yield the episodes as they end, in any order.

        Raises:
            WorkerDiedError: after `DEATHS` deaths in a row on one episode.
            UserError: what a worker raised because of the user's files.
            RuntimeError: any other error of a worker, with its traceback.
        """
        with contextlib.closing(self.attempt(jobs)) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, Failure):
                    raise outcome.error
                yield outcome

    def attempt(self, jobs: Iterable[Job]) -> Generator[Episode | Failure, None, None]:
        """Play all jobs and yield what came of each, in any order.

        A worker that dies is replaced and its episode played again with the same seeds, `DEATHS` times at most.
        """
        waiting, deaths = deque(jobs), Counter[int]()
        try:
            while waiting or any(member.job for member in self._members):
                self._hand_out(waiting)
                for member in self._ready():
                    job, answer = member.collect()
                    if answer is not None:
                        yield _outcome(job, answer)
                        continue
                    deaths[id(job)] += 1
                    if deaths[id(job)] == DEATHS:
                        yield Failure(job, _died(f"on episode {job.episode}"))
                        continue
                    waiting.appendleft(job)
                    self._say(f"a worker process died on episode {job.episode}; restarted, the episode is played again")
        finally:
            for member in self._members:
                if member.job is not None:
                    member.restart()

    def _hand_out(self, waiting: deque[Job]) -> None:
        for member in self._members:
            if member.job is None and waiting:
                member.give(waiting.popleft())

    def _ready(self) -> list["_Member"]:
        busy = [member for member in self._members if member.job is not None]
        done = set(wait([x for member in busy for x in (member.connection, member.process.sentinel)]))
        return [member for member in busy if {member.connection, member.process.sentinel} & done]

    def close(self) -> None:
        """End all workers."""
        for member in self._members:
            member.stop()
        self._folder.cleanup()


class _Member:
    """One worker process, seen from the parent."""

    def __init__(self, folder: str) -> None:
        self.job: Job | None = None
        self._folder = folder
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self._folder), daemon=True)
        with _sigint_ignored():
            self.process.start()
        theirs.close()

    def give(self, job: Job) -> None:
        self.job = job
        try:
            _send(self.connection, job)
        except OSError:  # it died while idle; collect() finds out
            self.process.join(timeout=5)

    def collect(self) -> tuple[Job, Any]:
        """Return the job and its answer; None when the process died, which is then replaced."""
        job, self.job = self.job, None
        assert job is not None
        try:
            if self.connection.poll():
                return job, _receive(self.connection)
        except (EOFError, OSError):
            pass
        self.restart()
        return job, None

    def restart(self) -> None:
        self.stop()
        self.job = None
        self._start()

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()
        self.connection.close()


def _send(connection: Connection, value: Any) -> None:
    """Send by value. `connection.send` would share tensors by open files and sockets in the folder of temporary files."""
    connection.send_bytes(pickle.dumps(value))


def _receive(connection: Connection) -> Any:
    return pickle.loads(connection.recv_bytes())


def _outcome(job: Job, answer: tuple[str, Any]) -> Episode | Failure:
    kind, value = answer
    return value if kind == "ok" else Failure(job, _error(kind, value))


def _error(kind: str, text: str) -> Exception:
    return UserError(text) if kind == "user_error" else RuntimeError(f"a worker process failed:\n{text}")


def _died(where: str) -> WorkerDiedError:
    return WorkerDiedError(f"worker processes died {DEATHS} times in a row {where}; {ADVICE}")


@contextlib.contextmanager
def _sigint_ignored() -> Iterator[None]:
    """Start processes that ignore Ctrl-C from their first instruction on: it is the parent's business."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _serve(connection: Connection, folder: str) -> None:
    """Answer jobs until the parent is gone; temporary files go to its folder, which it removes however a worker ends."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tempfile.tempdir = folder
    torch.set_num_threads(1)
    worker = Worker()
    while True:
        try:
            job = _receive(connection)
        except (EOFError, OSError):
            return
        try:
            answer: tuple[str, Any] = ("ok", probe(job) if isinstance(job, Task) else worker.play(job))
        except UserError as error:
            worker.close()
            answer = ("user_error", str(error))
        except Exception:
            worker.close()
            answer = ("error", traceback.format_exc())
        try:
            _send(connection, answer)
        except OSError:  # the parent is gone
            return
