"""The head's side of a slot: its handle, and the objects that travel to it."""

import contextlib
import pickle
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tsc_marl.rollout.cluster.slot import Answer, Slot, versions
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.rollout.pool import LOST
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import Job
from tsc_marl.sim import bundle
from tsc_marl.sim.scenario import Scenario

Kind = tuple[type, tuple[Any, ...]]
"""Class of the actors of slots, with the arguments after `fetch`."""
PLAYS: Kind = (Slot, ())


@dataclass(frozen=True)
class Node:
    """A machine of the cluster."""

    id: str
    address: str
    cpus: int


class RemoteSlot:
    """The head's handle of a slot, with the methods of a `WorkerHandle`.

    Attributes:
        job: that it plays, if any.
        node: its machine.
        answer: reference of the newest answer; at first, of the slot's versions.
        paused: by episode, the last rollout that was played there, without weights.

    Args:
        node: the machine to start it on.
        store: keeps what travels to it.
        drop: called with the slot when it has ended.
        kind: class of its actor, and further arguments of that.
    """

    def __init__(self, node: Node, store: "ObjectStore", drop: "Callable[[RemoteSlot], None]", kind: Kind) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.job: Job | None = None
        self.node, self.paused = node, dict[int, Job]()
        self._store, self._drop = store, drop
        actor, arguments = kind
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        self._actor: Any = ray.remote(actor).options(num_cpus=1, scheduling_strategy=there).remote(ray.get, *arguments)
        self.answer: Any = self._actor.versions.remote()

    def refusal(self) -> str | None:
        """Return why the slot cannot be used, empty when it is gone; None when it can."""
        import ray
        from ray import exceptions

        try:
            there: Any = ray.get(self.answer)
        except exceptions.RayError as error:
            missing = "No module named" in str(error)
            return f"tsc_marl is not installed there, {versions()['tsc_marl']} here" if missing else ""
        wrong = [f"{name} is {there.get(name)} there, {own} here" for name, own in versions().items() if there.get(name) != own]
        return ", ".join(wrong) or None

    def pauses(self, job: Job) -> bool:
        """Return whether the rollouts before a job were played in this slot."""
        return job.follows(self.paused.get(job.episode))

    def ask_spec(self, task: Task) -> None:
        """Ask for the sizes and neighbours of a task's network; `spec` returns the answer."""
        self.answer = self._actor.read_spec.remote(*self._store.parts(Job(0, task, ControllerPolicy(""), 0)))

    def spec(self) -> tuple[str, Any] | None:
        """Return the answer to `ask_spec`, a `Spec` or an error; None when the process died."""
        answer = self._receive()
        return (answer.kind, answer.value) if answer is not None else None

    def submit(self, job: Job) -> None:
        """Send a job."""
        self.job = job
        self.answer = self._actor.play.remote(*self._store.parts(job))

    def result(self) -> tuple[Job, Any]:
        """Return the job and its answer; None when the process died."""
        job, self.job = self.job, None
        assert job is not None
        self.paused.pop(job.episode, None)
        answer = self._receive()
        if answer is None or answer.kind != "ok":
            return job, (answer.kind, answer.value) if answer is not None else None
        if job.out is not None:
            job.out.mkdir(parents=True, exist_ok=True)
            for name, content in answer.files.items():
                (job.out / name).write_bytes(content)
        played = job.without_weights()
        if not answer.value.finished:
            self.paused[job.episode] = played
        return job, ("ok", replace(answer.value, job=played))

    def _receive(self) -> Answer | None:
        import ray
        from ray import exceptions

        try:
            content: Any = ray.get(self.answer)
        except exceptions.RayTaskError as error:  # of this program
            return Answer("error", str(error), {})
        except exceptions.OutOfMemoryError:  # as when the episode's process dies of it
            self.stop()
            return None
        except exceptions.RayError:
            self.stop()
            return Answer(LOST, f"a slot of node {self.node.address} was lost", {})
        return None if content is None else pickle.loads(content)

    def leave(self) -> Any:
        """Ask an idle slot to remove what it has on its machine; return the reference of its answer."""
        return self._actor.close.remote()

    def stop(self) -> None:
        """End the slot."""
        import ray
        from ray import exceptions

        self.job = None
        self._drop(self)
        with contextlib.suppress(exceptions.RayError, ConnectionError):
            ray.kill(self._actor)


class ObjectStore:
    """What travels to the slots by reference: Ray sends each object to a machine once, however many slots need it."""

    def __init__(self) -> None:
        self._references: dict[int, Any] = {}
        self._bundles: dict[Scenario, tuple[Scenario, str, Any]] = {}

    def parts(self, job: Job) -> tuple[bytes, tuple[Any, ...]]:
        """Return the message and the references of the `Order` of a job."""
        import ray

        source = job.task.scenario
        if source not in self._bundles:
            packed = bundle.pack(source)
            self._bundles[source] = packed.scenario, packed.digest, ray.put(packed.files)
        scenario, digest, files = self._bundles[source]
        policies = tuple(map(self._reference, (*job.previous_policies, job.policy)))
        message = pickle.dumps((job.without_weights(), scenario, digest))
        return message, (policies, self._reference(job.task.net()), files)

    def _reference(self, value: Any) -> Any:
        """Return the reference of an object, which lives as long as the object itself."""
        import ray

        key = id(value)
        if key not in self._references:
            self._references[key] = ray.put(value)
            weakref.finalize(value, self._references.pop, key, None).atexit = False
        return self._references[key]
