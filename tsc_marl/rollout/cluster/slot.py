"""A slot of a cluster: plays jobs on another machine, each episode in a process of its own, as the local pool does.

It lives in an actor of Ray, which this module does not import: a job comes with references, and `fetch` gets what is needed.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from tsc_marl.paths import refused_by_system, temporary_folder
from tsc_marl.rollout.process import WorkerHandle
from tsc_marl.rollout.types import Job
from tsc_marl.sim import bundle

CACHE = "tsc_marl-networks"
"""First part of the name of a node's folder of network files, one folder by digest for each network."""


@functools.cache
def versions() -> dict[str, str]:
    """Return what must be the same on every machine of a cluster, by the name that a message has for it."""
    sources = hashlib.sha256()
    package = Path(__file__).parents[2]
    for path in sorted(package.rglob("*.py")):
        sources.update(str(path.relative_to(package)).encode() + path.read_bytes())
    installed = {name: metadata.version(of) for name, of in (("tsc_marl", "tsc_marl"), ("SUMO", "libsumo"), ("torch", "torch"))}
    installed["tsc_marl"] += f" (sources {sources.hexdigest()[:8]})"
    return {**installed, "Python": platform.python_version()}


@dataclass(frozen=True)
class Order:
    """A job for a slot: a pickled message, and references to the large parts, which travel to a machine at most once."""

    message: bytes
    """The job without weights and without the road network, its scenario with paths in the bundle, and the bundle's digest."""
    policies: tuple[Any, ...]
    """References: the policies of the earlier rollouts, then that of the job."""
    net: Any
    """Reference: the road network."""
    files: Any
    """Reference: the contents of the bundle."""


@dataclass(frozen=True)
class Answer:
    """What comes back for an order."""

    kind: str
    """`ok`, or the kind of the error, as from a worker process."""
    value: Any
    """A `RolloutResult`, a `Spec`, or the text of the error."""
    files: dict[str, bytes]
    """SUMO's files by name, where the job keeps them."""


class Slot:
    """Plays one job after the other. Episodes between two of their rollouts are paused in processes of their own.

    Args:
        fetch: returns what a reference stands for.
    """

    def __init__(self, fetch: Callable[[Any], Any]) -> None:
        self._fetch = fetch
        self._folder = temporary_folder()
        self._paused: list[WorkerHandle] = []
        self._idle: list[WorkerHandle] = []

    def versions(self) -> dict[str, str]:
        """Return the versions on this machine."""
        return versions()

    def play(self, message: bytes, references: tuple[Any, ...]) -> bytes | None:
        """Return the answer to the job of an order, pickled; None when its process died.

        Args:
            message: of the order.
            references: its other parts. Ray leaves references as they are that stand in a tuple.
        """
        return self._answered(functools.partial(self._play, Order(message, *references)))

    def read_spec(self, message: bytes, references: tuple[Any, ...]) -> bytes | None:
        """Return the sizes of the network of an order's job, as `play` does."""
        return self._answered(functools.partial(self._read_spec, Order(message, *references)))

    def close(self) -> None:
        """End the processes, and remove the temporary files."""
        for handle in (*self._paused, *self._idle):
            handle.stop()
        self._folder.cleanup()

    def _answered(self, action: Callable[[], Answer | None]) -> bytes | None:
        try:
            answer = action()
        except OSError as error:  # the disk of this machine
            answer = Answer("system_error", f"{platform.node()}: {refused_by_system(error)}", {})
        return answer and pickle.dumps(answer)

    def _play(self, order: Order) -> Answer | None:
        job = self._placed(order)
        with self._out(job) as out:
            job = replace(job, out=out)
            handle = next((handle for handle in self._paused if handle.has_played(job)), None)
            if handle is None:
                self._forget(job.episode)
                handle = self._idle.pop() if self._idle else WorkerHandle(self._folder.name)
                *earlier, policy = map(self._fetch, order.policies)
                job = replace(job, policy=policy, previous_policies=tuple(earlier), net=self._fetch(order.net))
            else:
                self._paused.remove(handle)
                job = replace(job, policy=self._fetch(order.policies[-1]))
            handle.submit(job)
            wait([handle.connection, handle.process.sentinel])
            _, answer = handle.result()
            pauses = answer is not None and answer[0] == "ok" and not answer[1].finished
            (self._paused if pauses else self._idle).append(handle)
            if answer is None:
                return None
            kind, value = answer
            return Answer(kind, value, {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} if out else {})

    def _read_spec(self, order: Order) -> Answer | None:
        handle = self._idle.pop() if self._idle else WorkerHandle(self._folder.name)
        handle.ask_spec(self._placed(order).task, self._fetch(order.net))
        answer = handle.spec()
        self._idle.append(handle)
        return answer and Answer(*answer, {})

    def _forget(self, episode: int) -> None:
        """Let the processes do other work that hold an episode which is played anew."""
        stale = [handle for handle in self._paused if handle.holds(episode)]
        self._paused = [handle for handle in self._paused if handle not in stale]
        self._idle += stale

    @contextlib.contextmanager
    def _out(self, job: Job) -> Iterator[Path | None]:
        if job.out is None:
            yield None
            return
        with tempfile.TemporaryDirectory(dir=self._folder.name) as folder:
            yield Path(folder)

    def _placed(self, order: Order) -> Job:
        """Return the job of an order with the network's files on this machine."""
        job, scenario, digest = pickle.loads(order.message)
        folder = Path(tempfile.gettempdir(), f"{CACHE}-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise PermissionError(1, "belongs to another user", str(folder))
        if not (folder / digest).is_dir():
            bundle.unpack(self._fetch(order.files), folder / digest)
        return replace(job, task=job.task.moved(bundle.at(scenario, folder / digest)))
