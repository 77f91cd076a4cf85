"""The branches of one policy on one network, and their file: compressed arrays of numpy, with a header of JSON."""

import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from tsc_marl.errors import UserError
from tsc_marl.rollout.branches import BranchedState

FORMAT = 1


@dataclass(frozen=True)
class BranchHeader:
    """What was played."""

    network: str
    policy: str
    greedy: bool
    """Whether a trained policy took its most likely phases."""
    timing: str
    decision_s: float
    names: tuple[str, ...]
    neighbours: tuple[tuple[int, ...], ...]
    """Per signal, the numbers of its neighbours on the road graph."""
    observation: str
    observation_version: int
    critic_gamma: float
    """Discount of the critic whose estimates are in the file; 1 where there are none."""
    sumo: str
    """Version of SUMO."""


@dataclass(frozen=True, eq=False)
class Branches:
    """Branches: P states, N signals, A phases, F features, G forced signals of all states, K continuations, T decisions."""

    header: BranchHeader
    seed: np.ndarray
    """[P] SUMO seed of each state's episode."""
    time_s: np.ndarray
    """[P] since the start of the window."""
    obs: np.ndarray
    """[P, N, F]"""
    avail: np.ndarray
    """[P, N, A]"""
    state: np.ndarray
    """[P, S]"""
    occupancy: np.ndarray
    """[P, N] share of the lanes behind each signal that vehicles fill."""
    chosen: np.ndarray
    """[P, K, N] phases that the policy chooses itself."""
    probs: np.ndarray
    """[P, N, A] the policy, with its exploration; the shares of `chosen` where it gives no probabilities."""
    own: np.ndarray
    """[P, N, A] the critic's effect of each phase on the own return; nan where there is none."""
    others: np.ndarray
    """[P, N, A] the same on the returns of others."""
    place: np.ndarray
    """[G] number of the state."""
    signal: np.ndarray
    """[G] number of the forced signal."""
    change: np.ndarray
    """[G, A, K, T, N] reward of each branch less that of the policy's own choice; nan for phases that are not legal."""

    @property
    def hops(self) -> np.ndarray:
        """Distances of the signals on the road graph [N, N]; N where there is no way."""
        n = len(self.header.names)
        distance = np.where(np.eye(n, dtype=bool), 0, n)
        near = np.zeros((n, n), bool)
        for i, others in enumerate(self.header.neighbours):
            near[i, list(others)] = True
        for hop in range(1, n):
            reached = (distance == hop - 1) @ near
            distance[reached & (distance == n)] = hop
        return distance

    @property
    def has_estimates(self) -> bool:
        """Whether a critic has estimated the effects of the phases."""
        return not bool(np.isnan(self.own).all())

    def save(self, path: Path) -> None:
        """Write the file; a crash in the middle leaves the last one whole."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "header"}
        header = json.dumps({"format": FORMAT} | asdict(self.header))
        new = path.with_name(f"{path.name}.new")
        with new.open("wb") as file:
            np.savez_compressed(file, header=np.array(header), **arrays)
        os.replace(new, path)

    @classmethod
    def load(cls, path: Path) -> "Branches":
        """Read a file.

        Raises:
            UserError: when it is none of `save`.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                values = {name: content[name] for name in content.files}
            header = json.loads(str(values.pop("header")))
            if header.pop("format") != FORMAT:
                raise ValueError("another format")
            header["names"] = tuple(header["names"])
            header["neighbours"] = tuple(map(tuple, header["neighbours"]))
            return cls(BranchHeader(**header), **values)
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())[:100]
            raise UserError(f"{path} is no file of branches ({reason}); give one that `branch` wrote, branches_….npz") from None


def together(parts: Sequence[Branches]) -> Branches:
    """Return the branches of several files as one.

    Raises:
        UserError: when they are of different settings.
    """
    first = parts[0]
    for part in parts[1:]:
        own, others = ((each.header, each.change.shape[2:]) for each in (first, part))
        if own != others:
            raise UserError(f"files of branches must have the same settings; got {_difference(own, others)}")
    arrays = [field.name for field in fields(first) if field.name not in ("header", "place")]
    offsets = np.cumsum([0, *(len(part.seed) for part in parts)])
    place = np.concatenate([part.place + offset for part, offset in zip(parts, offsets, strict=False)])
    return replace(first, place=place, **{name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays})


def _difference(own: tuple[BranchHeader, tuple[int, ...]], others: tuple[BranchHeader, tuple[int, ...]]) -> str:
    for name, value in vars(own[0]).items():
        if value != getattr(others[0], name):
            return f"{name} {value} and {getattr(others[0], name)}"
    return f"(continuations, decisions, signals) {own[1]} and {others[1]}"


def join(header: BranchHeader, states: Sequence[BranchedState]) -> Branches:
    """Return the branches of several states."""
    stacked = {
        name: np.stack([getattr(state, name) for state in states]) for name in ("obs", "avail", "state", "occupancy", "chosen")
    }
    own, others = (np.stack([_estimate(state, name) for state in states]) for name in ("own", "others"))
    place = np.repeat(np.arange(len(states)), [len(state.signals) for state in states])
    return Branches(
        header, np.array([state.seed for state in states]), np.array([state.time_s for state in states]), **stacked,
        probs=np.stack([_probs(state) for state in states]), own=own, others=others, place=place,
        signal=np.concatenate([state.signals for state in states]), change=np.concatenate([state.change for state in states]),
    )  # fmt: skip


def _estimate(state: BranchedState, name: str) -> np.ndarray:
    return state.estimates.get(name, np.full(state.avail.shape, np.nan, np.float32))


def _probs(state: BranchedState) -> np.ndarray:
    shares = (state.chosen[..., None] == np.arange(state.avail.shape[1])).mean(axis=0).astype(np.float32)
    probs = state.estimates.get("probs")
    return shares if probs is None else probs
