"""A pool whose workers are slots of a Ray cluster."""

import contextlib
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

from tsc_marl.errors import UserError
from tsc_marl.rollout.cluster.connection import connected
from tsc_marl.rollout.cluster.remote import PLAYS, Kind, Node, ObjectStore, RemoteSlot
from tsc_marl.rollout.pool import LOOK_S, Failure, Pool
from tsc_marl.rollout.process import WorkerDiedError
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import Job, RolloutResult
from tsc_marl.types import Spec

logger = logging.getLogger(__name__)

EMPTY_S = 60.0
"""Time that a cluster may be without a usable machine [s] before the command ends."""
LEAVE_S = 5.0
"""Time that slots have to remove what they wrote [s]."""


def open_pool(workers: int | None, concurrent_episodes: int = 1, cluster: str | None = None) -> Pool:
    """Return the worker processes of this machine, or the slots of a cluster.

    Args:
        workers: jobs that are played at once; None for one on each core, or on each slot of the cluster.
        concurrent_episodes: as for `Pool`.
        cluster: address of a Ray cluster; None for this machine.

    Raises:
        UserError: when there is no such cluster, Ray is not installed, or the cluster has fewer slots.
    """
    if cluster is None:
        return Pool(workers or os.cpu_count() or 1, concurrent_episodes)
    return RayPool(workers, cluster)


class RayPool(Pool):
    """Slots of a Ray cluster: one for each of its CPUs, on every machine with the same versions as here.

    Slots are started as jobs need them, also on machines that join later.

    Args:
        workers: slots that work at once; None for all.
        cluster: address, `auto`, `host:port` or `ray://host:port`.
        kind: of the slots.

    Raises:
        UserError: as `open_pool`.
    """

    def __init__(self, workers: int | None, cluster: str, kind: Kind = PLAYS) -> None:
        super().__init__(workers or 1)
        self._cluster, self._workers_given, self._kind = cluster, workers, kind
        self._starting: list[RemoteSlot] = []
        self._refused: set[str] = set()
        self._ended = Counter[str]()
        self._looked_s, self._served_s, self._noted = -math.inf, time.monotonic(), False
        self._disconnect = contextlib.ExitStack()
        self._disconnect.enter_context(connected(cluster))
        self._store = ObjectStore()
        self._nodes: dict[str, Node] = {}
        self._look()
        slots = sum(node.cpus for node in self._nodes.values())
        if (workers or 1) > slots:
            self.close()
            todo = f"give at most {slots}" if slots else "start Ray on a machine with CPUs"
            raise UserError(f"workers {workers or 1} is more than the {slots} slots of the cluster at {cluster}; {todo}")

    def _start(self, number: int) -> list[Any]:
        return []  # `_expect` starts them

    @property
    def slots(self) -> list[RemoteSlot]:
        """The slots that have started."""
        return self._workers

    def read_specs(self, tasks: Sequence[Task], watch: Callable[[], None] = lambda: None) -> list[Spec]:
        with self._reached():
            return super().read_specs(tasks, watch)

    def run_with_failures(self, jobs: Iterable[Job]) -> Generator[RolloutResult | Failure, None, None]:
        with self._reached():
            yield from super().run_with_failures(jobs)

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn the loss of a connection by `ray://` into one line."""
        try:
            yield
        except ConnectionError as error:
            raise WorkerDiedError(f"the connection to the cluster at {self._cluster} was lost ({error})") from None

    def close(self) -> None:
        """End all slots, and leave the cluster."""
        import ray

        with contextlib.suppress(ConnectionError):
            if leaving := [slot.leave() for slot in self._workers if slot.job is None]:
                ray.wait(leaving, num_returns=len(leaving), timeout=LEAVE_S)
        for slot in list(self._starting):
            slot.stop()
        super().close()
        self._disconnect.close()

    def _drop(self, slot: RemoteSlot) -> None:
        """Forget a slot that has ended."""
        self._ended[slot.node.id] += 1
        for slots in (self._workers, self._starting):
            if slot in slots:
                slots.remove(slot)

    def _look(self) -> None:
        """Look which machines are there."""
        import ray

        self._looked_s = time.monotonic()
        alive = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in self._refused]
        nodes = [Node(node["NodeID"], node["NodeManagerAddress"], int(node["Resources"].get("CPU", 0))) for node in alive]
        self._nodes = {node.id: node for node in nodes}
        if self._workers_given is None:
            self._size = max(1, sum(node.cpus for node in self._nodes.values()))

    def _expect(self, jobs: int) -> None:
        """Start slots until there is one for each job: where the fewest have ended, then where the most CPUs are free."""
        if time.monotonic() - self._looked_s > LOOK_S:
            self._look()
        mine = Counter(slot.node.id for slot in (*self._workers, *self._starting))
        while sum(mine.values()) < min(jobs, self._size):
            free = [node for node in self._nodes.values() if node.cpus > mine[node.id]]
            if not free:
                break
            node = min(free, key=lambda node: (self._ended[node.id], mine[node.id] - node.cpus))
            self._starting.append(RemoteSlot(node, self._store, self._drop, self._kind))
            mine[node.id] += 1
        self._check_served()

    def _check_served(self) -> None:
        """End a command that has no slot for long; say when the slots that start have to wait for other programs."""
        now = time.monotonic()
        if self._workers:
            self._served_s = now
        elif not self._starting and now - self._served_s > EMPTY_S:
            raise WorkerDiedError(f"the cluster at {self._cluster} has had no usable machine for {EMPTY_S:.0f} s; start one")
        elif self._starting and now - self._served_s > EMPTY_S and not self._noted:
            self._noted = True
            logger.warning(
                f"no slot of the cluster at {self._cluster} has started yet; other programs may have its CPUs; waiting"
            )

    def _ready(self, busy: Iterable[Any]) -> list[Any]:
        import ray

        busy = list(busy)
        waiting = {slot.answer: slot for slot in (*busy, *self._starting)}
        if not waiting:
            time.sleep(LOOK_S)
            return []
        refs = list(waiting)
        first, _ = ray.wait(refs, timeout=LOOK_S)
        done = ray.wait(refs, num_returns=len(refs), timeout=0)[0] if first else []
        slots = [waiting[ref] for ref in done]
        for slot in [slot for slot in slots if slot in self._starting]:
            self._admit(slot)
        return [slot for slot in slots if slot in busy]

    def _admit(self, slot: RemoteSlot) -> None:
        """Let a slot work that has started, unless its machine has other versions."""
        self._starting.remove(slot)
        reason = slot.refusal()
        if reason is None:
            self._workers.append(slot)
            return
        slot.stop()
        if reason and slot.node.id not in self._refused:
            self._refused.add(slot.node.id)
            self._nodes.pop(slot.node.id, None)
            logger.warning(f"node {slot.node.address} is left out: {reason}")

    def _worker_for(self, job: Job) -> RemoteSlot | None:
        """Return the slot in which the job's episode is paused, if any; else the free one with the fewest paused episodes."""
        holder = next((slot for slot in self._workers if slot.pauses(job)), None)
        if sum(slot.job is not None for slot in self._workers) >= self._size:
            return None
        if holder is not None:
            return holder if holder.job is None else None
        for slot in self._workers:
            slot.paused.pop(job.episode, None)  # of an earlier attempt
        free = [slot for slot in self._workers if slot.job is None]
        return min(free, key=lambda slot: len(slot.paused), default=None)
