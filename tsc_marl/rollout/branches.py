"""Branches of a running simulation: the process forks, one phase is forced in the child, and the policy goes on from there.

A fork copies SUMO, the policy and the reward exactly. In each child SUMO's drivers and the policy's random numbers are seeded
anew, by the number of the continuation alone: the branches of all phases have common random numbers.
"""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from torch import Tensor

from tsc_marl.errors import UserError
from tsc_marl.rollout.policies import Driver, TrainedDriver
from tsc_marl.sim import driver_chance, seeds
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.road_network import VEHICLE_M

RESOLUTION = 16
"""Changes are rounded to this part of a unit, which keeps files small."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class BranchPlan:
    """Where an episode branches, and how."""

    decision: int
    """Number of the decision; where no signal has a choice then, the next one with a choice."""
    signals: int
    """Signals whose phases are forced, one at a time; fewer where fewer have a choice."""
    continuations: int
    horizon: int
    """Decisions that a branch is played for."""


@dataclass(frozen=True)
class BranchedState:
    """One state of an episode and its branches: N signals, A phases, G signals forced, K continuations, T decisions."""

    seed: int
    """SUMO seed of the episode."""
    time_s: float
    """Since the start of the window."""
    obs: np.ndarray
    """[N, F]"""
    avail: np.ndarray
    """[N, A]"""
    state: np.ndarray
    """[S]"""
    occupancy: np.ndarray
    """[N] share of the lanes behind each signal that vehicles fill."""
    chosen: np.ndarray
    """[K, N] phases that the policy chooses itself."""
    estimates: dict[str, np.ndarray]
    """`probs`, `own` and `others` of `Algorithm.value_estimates`, [N, A] each, as far as there are any."""
    signals: np.ndarray
    """[G] numbers of the signals that were forced."""
    change: np.ndarray
    """[G, A, K, T, N] reward of each branch less that of the policy's own choice; nan for phases that are not legal."""


def play(env: TrafficEnv, driver: Driver, plan: BranchPlan) -> BranchedState:
    """Play a started episode to the state of a plan, and its branches.

    Raises:
        UserError: when no signal has a choice from there on, or a process that plays a branch dies.
    """
    for _ in range(plan.decision):
        env.step(driver.act())
    left = env.horizon - plan.decision
    while not (able := np.flatnonzero(env.avail.sum(1) > 1)).size:
        left -= 1
        if left < plan.horizon:
            raise UserError(f"no signal of {env.scenario.name} has a choice from decision {plan.decision} on; take another seed")
        env.step(driver.act())
    seed = env.episode.seed
    rng = np.random.default_rng([seed, plan.decision])
    signals = np.sort(rng.choice(able, min(plan.signals, able.size), replace=False))
    estimates = _estimates(driver.value_estimates()) if isinstance(driver, TrainedDriver) else {}
    passed_s = env.now - env.scenario.begin_s
    chosen, change = _changes(env, driver, plan, signals)
    return BranchedState(
        seed, passed_s, env.obs, env.avail, env.state, _occupancy(env), chosen, estimates, signals, change
    )  # fmt: skip


def _estimates(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensors[name][0].numpy() for name in ("probs", "own", "others") if name in tensors}


def _occupancy(env: TrafficEnv) -> np.ndarray:
    """Return [N]: the room that vehicles take on the lanes that a signal's links lead to, as a share of their length."""
    net = env.net
    taken_m = VEHICLE_M * np.bincount(env.vehicles.lane, minlength=len(net.lane_length_m))
    shares = []
    for signal in net.signals:
        lanes = sorted({net.lane_index[lane] for link in signal.links for lane in link.receiving})
        shares.append(taken_m[lanes].sum() / net.lane_length_m[lanes].sum())
    return np.array(shares)


def _changes(env: TrafficEnv, driver: Driver, plan: BranchPlan, signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the policy's own choices [K, N], and the changes [G, A, K, T, N]."""
    shape = (len(signals), env.avail.shape[1], plan.continuations, plan.horizon, len(env.names))
    change = np.full(shape, np.nan, np.float32)
    chosen = []
    for k in range(plan.continuations):
        own, usual = branch(env, driver, k, plan.horizon)
        chosen.append(own)
        for g, phase in _legal(env.avail, signals):
            if phase == own[signals[g]]:
                change[g, phase, k] = 0
                continue
            _, reward = branch(env, driver, k, plan.horizon, (int(signals[g]), phase))
            change[g, phase, k] = np.round((reward - usual) * RESOLUTION) / RESOLUTION
    return np.stack(chosen), change


def _legal(avail: np.ndarray, signals: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the place of each signal in the list, with each of its legal phases."""
    for g, signal in enumerate(signals.tolist()):
        for phase in np.flatnonzero(avail[signal]).tolist():
            yield g, phase


def branch(
    env: TrafficEnv, driver: Driver, continuation: int, horizon: int, forced: tuple[int, int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Play one branch in a fork of this process; here nothing changes.

    Args:
        env: the episode, at the decision.
        driver: its policy.
        continuation: number of the random numbers from now on.
        horizon: decisions to play.
        forced: a signal and its phase at this one decision; by default the policy chooses all.

    Returns the phases at this decision [N], and the rewards [T, N].
    """

    def rewards() -> tuple[np.ndarray, np.ndarray]:
        seed = seeds.continuation_seed(continuation)
        driver_chance.reseed(seed)
        driver.reseed(seed)
        first = driver.act().copy()
        if forced is not None:
            first[forced[0]] = forced[1]
        received = [env.step(first)[0]]
        received += [env.step(driver.act())[0] for _ in range(horizon - 1)]
        return first, np.stack(received)

    return in_fork(rewards)


def in_fork(work: Callable[[], Result]) -> Result:
    """Return what a function returns in a fork of this process.

    Raises:
        UserError: as the function does, or when the fork dies.
        RuntimeError: for any other error of the function, with its traceback.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if not child:
        try:
            sender.send(_answer(work))
        finally:  # nothing of the parent is ended here
            os._exit(0)
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        raise UserError("a process that plays a branch died, perhaps for lack of memory; use fewer --workers") from None
    finally:
        receiver.close()
        os.waitpid(child, 0)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _answer(work: Callable[[], Result]) -> Result | Exception:
    try:
        return work()
    except UserError as error:
        return error
    except Exception:
        return RuntimeError(f"a branch failed:\n{traceback.format_exc()}")
