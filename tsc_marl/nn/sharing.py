"""Copies of networks, and networks that clusters of agents share."""

from collections.abc import Collection, Sequence
from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn

from tsc_marl.nn.agent import GroupLinear

Net = TypeVar("Net", bound=nn.Module)


def target_copy(module: Net) -> Net:
    """Return a copy without gradients: a target network."""
    return deepcopy(module).requires_grad_(False)


@torch.no_grad()
def polyak_update(target: nn.Module, online: nn.Module, share: float) -> None:
    """Move a target network: target <- (1 - share) target + share online; a share of 1 copies (arXiv 1509.02971)."""
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.lerp_(new, share)


def tie(module: nn.Module, source: nn.Module, buffers: Collection[str] = ()) -> None:
    """Let a module use the parameters of another from now on, and some of its buffers.

    Raises:
        ValueError: with the first parameter that only one of them has, or that has another shape there.
    """
    tensors, own = (dict(part.named_parameters(remove_duplicate=False)) for part in (source, module))
    for name in (*tensors, *own):
        if name not in tensors or name not in own or tensors[name].shape != own[name].shape:
            raise ValueError(name)
    tensors |= {name: buffer for name, buffer in source.named_buffers(remove_duplicate=False) if name in buffers}
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(path), leaf, tensor)


def regroup(module: nn.Module, group: Sequence[int]) -> None:
    """Let agent n use network `group[n]`, in every layer of a module that shares by learned clusters.

    A cluster starts with a copy of the network of its first agent.
    """
    first: dict[int, int] = {}
    for n, k in enumerate(group):
        first.setdefault(k, n)
    for part in _clustered(module):
        if len(part.group) != len(group):
            continue
        with torch.no_grad():
            for values in (part.weight, part.bias):
                old = values.clone()
                for k, n in first.items():
                    values[k] = old[part.group[n]]
        part.group.copy_(torch.tensor(list(group)))


def is_grouped(module: nn.Module) -> bool:
    """Return whether `regroup` has made more than one cluster."""
    return any(bool(part.group.any()) for part in _clustered(module))


def _clustered(module: nn.Module) -> list[GroupLinear]:
    return [part for part in module.modules() if isinstance(part, GroupLinear) and "group" in part.state_dict()]
