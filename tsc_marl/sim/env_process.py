"""A simulation in a process of its own: libsumo has only one in a process."""

import contextlib
import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from tsc_marl.errors import UserError
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.scenario import Scenario
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.sim.signal_view import SignalView
from tsc_marl.sim.turning_counts import PlanningContext, planning_context

UNCONTROLLED = -1
"""Action of a signal that the controller in the process chooses for."""


class Chooser(Protocol):
    """A classical controller, as far as a simulation asks it."""

    def reset(self, seed: int, view: SignalView) -> None:
        """Start an episode."""

    def act(self, view: SignalView) -> np.ndarray:
        """Return a phase for each signal, [N] int."""
        ...


@dataclass(frozen=True)
class EnvSpec:
    """What to simulate; everything that the process needs."""

    scenario: Scenario
    timing: Timing
    config: SimConfig
    make_controller: Callable[[PlanningContext], Chooser] | None = None
    """Chooses where an action is `UNCONTROLLED`."""


@dataclass(frozen=True)
class Sizes:
    """Names and shapes of an environment."""

    names: tuple[str, ...]
    """Of the signals."""
    n_phases: tuple[int, ...]
    obs_dim: int
    state_dim: int


class EnvProcess:
    """One `TrafficEnv` in a child process.

    Raises:
        UserError: when the network, its files or the configuration cannot be used.
    """

    def __init__(self, spec: EnvSpec) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, spec), daemon=True)
        with without_main():
            self._process.start()
        child.close()  # only the child holds it, so that each side notices when the other is gone
        self.sizes: Sizes = self._receive()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid or 0

    def ask(self, verb: str, argument: Any) -> Any:
        """Send `reset` with a seed or `step` with actions [N]; return the answer of `_answer`.

        Raises:
            RuntimeError: when the process is closed or has ended.
        """
        try:
            self._pipe.send((verb, argument))
        except OSError:
            raise RuntimeError(f"{verb}: the simulation is closed; make a new environment") from None
        return self._receive()

    def close(self) -> None:
        """End the simulation and its process; may be repeated."""
        with contextlib.suppress(OSError):
            self._pipe.send(("close", None))
        self._pipe.close()
        self._process.join()

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise RuntimeError(f"the simulation's process ended with exit code {self._process.exitcode}") from None
        if isinstance(answer, Exception):
            self._process.join()
            raise answer
        return answer


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Start processes that do not run the user's script again: no guard `if __name__ == "__main__"` is needed.

    What a child gets by `pickle` must not be defined in that script.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(pipe: Connection, spec: EnvSpec) -> None:
    """Run the environment in the child until the parent closes or is gone; an error is the last answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        with contextlib.closing(TrafficEnv(spec.scenario, spec.timing, spec.config)) as env:
            _answer(pipe, env, spec.make_controller(planning_context(env)) if spec.make_controller is not None else None)
    except (EOFError, ConnectionError):
        pass
    except Exception as error:
        pipe.send(error if isinstance(error, UserError) else RuntimeError(f"the simulation failed\n{traceback.format_exc()}"))


def _answer(pipe: Connection, env: TrafficEnv, controller: Chooser | None) -> None:
    env.reset(0)  # the size of a sumo-rl observation is known only from the running simulation
    pipe.send(Sizes(env.names, env.n_phases, env.obs.shape[1], len(env.state)))
    while (message := pipe.recv())[0] != "close":
        verb, argument = message
        if verb == "reset":
            env.reset(argument)
            if controller is not None:
                controller.reset(argument, env.view)
            pipe.send((env.obs, env.avail, env.state))
        else:
            actions = argument if controller is None else np.where(argument == UNCONTROLLED, controller.act(env.view), argument)
            reward, ended = env.step(actions)
            pipe.send((env.obs, env.avail, env.state, reward, env.executed, ended))
