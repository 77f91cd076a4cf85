"""Worker processes: the loop that plays jobs, and the handle of the parent.

Every episode is played in a process of its own. SUMO breaks some ties by memory addresses. So an episode of cologne1 has
several possible outcomes, which depend on the earlier simulations of the process. The process is forked, in milliseconds,
from one that has imported everything and never simulated: libsumo keeps state that must not be copied.
"""

import contextlib
import inspect
import multiprocessing
import pickle
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from tsc_marl.errors import UserError
from tsc_marl.paths import refused_by_system, socket_folder
from tsc_marl.rollout import interrupts
from tsc_marl.rollout.task import Task, read_spec
from tsc_marl.rollout.types import Job
from tsc_marl.rollout.worker import Worker
from tsc_marl.sim.env_process import without_main
from tsc_marl.sim.road_network import RoadNetwork

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__, "tsc_marl.sim._libsumo"])
MAX_STARTS, START_AGAIN_S = 5, 1.0
"""Attempts to start a worker, and the time between two: the process that forks may be killed, and is then started anew."""
ADVICE = "if memory ran out, use fewer --workers"


class WorkerDiedError(UserError):
    """Worker processes lack memory, after repeated deaths on the same episode, or a disk: nothing is wrong with the files."""


class WorkerHandle:
    """The parent's handle of a worker process; each episode gets a new process."""

    def __init__(self, folder: str) -> None:
        self.job: Job | None = None
        self._folder = folder
        self._start()

    def _start(self) -> None:
        self._fresh = True
        self._played: Job | None = None
        for left in reversed(range(MAX_STARTS)):
            interrupts.check()
            resource_tracker.ensure_running()  # its start would unblock Ctrl-C for the processes after it
            self.connection, far_end = CONTEXT.Pipe()
            self.process = CONTEXT.Process(target=_serve, args=(far_end, self._folder), daemon=True)
            try:
                with interrupts.kept_from_children(), _short_address(), without_main():
                    self.process.start()
                return
            except (OSError, EOFError) as error:
                self.connection.close()
                if not left:
                    raise WorkerDiedError(f"no worker process can be started ({error}); {ADVICE}") from None
                time.sleep(START_AGAIN_S)
            finally:
                far_end.close()

    def ask_spec(self, task: Task, net: RoadNetwork | None = None) -> None:
        """Ask for the sizes and neighbours of a task's network, which may be given; `spec` returns the answer."""
        if self.connection.closed:
            self._start()
        self._fresh = False
        with contextlib.suppress(OSError):  # it died while idle; spec() finds out
            send(self.connection, (task, net or _net(task)))

    def spec(self) -> tuple[str, Any] | None:
        """Return the answer to `ask_spec`, a `Spec` or an error; None when the process died, which is then replaced."""
        try:
            return receive(self.connection)
        except (EOFError, OSError):
            self.restart()
            return None

    def has_played(self, job: Job) -> bool:
        """Return whether the rollouts before a job were played in the process, where their episode is paused."""
        return not self.connection.closed and job.follows(self._played)

    def holds(self, episode: int) -> bool:
        """Return whether the newest result of the process was of an episode."""
        return self._played is not None and self._played.episode == episode

    def submit(self, job: Job) -> None:
        """Send a job to the process, or to a new one if an episode begins with it; weights that the process has are left out."""
        continues = self.has_played(job)
        if self.connection.closed or not (self._fresh or continues):
            self.restart()
        light = job.without_previous_weights() if continues else replace(job, net=job.net or _net(job.task))
        self.job, self._fresh, self._played = job, False, None
        try:
            send(self.connection, light)
        except OSError:  # it died while idle; result() finds out
            self.process.join(timeout=5)

    def result(self) -> tuple[Job, Any]:
        """Return the job and its answer; None when the process died, which is then replaced."""
        job, self.job = self.job, None
        assert job is not None
        try:
            if self.connection.poll():
                answer = receive(self.connection)
                self._played = job.without_weights() if answer[0] == "ok" else None
                return job, answer
        except (EOFError, OSError):
            pass
        self.restart()
        return job, None

    def restart(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> None:
        """End the process; a later job gets a new one."""
        self.job = None
        if self.process.pid is not None:  # None: its start was interrupted
            self.process.kill()
            self.process.join()
        self.connection.close()


def _net(task: Task) -> RoadNetwork | None:
    """Return a task's road network, read once in this process; None where it cannot be: then the worker's answer says why."""
    with contextlib.suppress(UserError, OSError):
        return task.net()


def send(connection: Connection, value: Any) -> None:
    """Send an object by value. `connection.send` would share tensors by open files and sockets in the temporary folder."""
    connection.send_bytes(pickle.dumps(value))


def receive(connection: Connection) -> Any:
    """Return the next object that `send` sent."""
    return pickle.loads(connection.recv_bytes())


@contextlib.contextmanager
def _short_address() -> Iterator[None]:
    """Start the process that forks with its socket in a folder of ours: its path is legal, and it goes after a kill too."""
    before = tempfile.tempdir
    tempfile.tempdir = socket_folder()
    try:
        yield
    finally:
        tempfile.tempdir = before


def _serve(connection: Connection, folder: str) -> None:
    """Answer jobs until the parent is gone; temporary files go to its folder, which it removes however a worker ends."""
    import torch

    optimizer = torch.optim.Optimizer  # a worker makes those of a user's algorithm, as torch does without loading its compiler
    optimizer.add_param_group = inspect.unwrap(optimizer.add_param_group)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tempfile.tempdir = folder
    torch.set_num_threads(1)
    worker = Worker()
    while True:
        try:
            job = receive(connection)
        except (EOFError, OSError):
            return
        try:
            answer: tuple[str, Any] = ("ok", worker.play(job) if isinstance(job, Job) else read_spec(*job))
        except UserError as error:
            worker.close()
            answer = ("user_error", str(error))
        except OSError as error:
            worker.close()
            error.filename = error.filename or getattr(job, "out", None) or folder  # a write names no file
            answer = ("system_error", str(refused_by_system(error)))
        except Exception:
            worker.close()
            answer = ("error", traceback.format_exc())
        try:
            send(connection, answer)
        except OSError:  # the parent is gone
            return
