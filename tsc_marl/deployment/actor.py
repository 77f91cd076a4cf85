"""A policy's actor as an ONNX file, for signals of any network: what the phases serve is an input, not part of the file."""

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from tsc_marl.errors import UserError
from tsc_marl.nn.phases import COUNT, KINDS, PhaseNet
from tsc_marl.types import Algorithm, Movements

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""Packages of the extra `tsc_marl[deploy]`."""
OPSET = 18


def import_packages() -> ModuleType:
    """Return onnxruntime.

    Raises:
        UserError: when a package of the extra is missing.
    """
    try:
        return [importlib.import_module(name) for name in PACKAGES][-1]
    except ImportError as error:
        raise UserError(f"deploy needs {', '.join(PACKAGES)} ({error}); pip install 'tsc_marl[deploy]'") from None


def phase_net(algorithm: Algorithm, name: str) -> PhaseNet:
    """Return the net whose largest output, among the legal phases, is the phase that the policy takes.

    Raises:
        UserError: when the algorithm has no such net.
    """
    actor = getattr(algorithm, "actor", None)
    if not isinstance(actor, PhaseNet):
        raise UserError(f"the policy of {name} has no actor that scores the phases of one signal; deploy jointq, mappo or ippo")
    return actor


class ScoresOfSignals(nn.Module):
    """Scores of the phases of N signals, whose links and phases are inputs."""

    def __init__(self, net: PhaseNet) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, links: Tensor, phases: Tensor, signal: Tensor, link_static: Tensor, link_real: Tensor, serves: Tensor,
        phase_real: Tensor, memory: Tensor | None = None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Return the scores [N, A], and the memory [N, H] of a policy that has one.

        Args:
            links: [N, L, K] features of the links.
            phases: [N, A, 2] whether a phase is shown, whether it is legal.
            signal: [N, 5] features of the signal.
            link_static: [N, L, J] features of the links that never change.
            link_real: [N, L] bool, the links that are not padding.
            serves: [N, A, L] int: 2 protected, 1 yielding, 0 red.
            phase_real: [N, A] bool, the phases that are not padding.
            memory: [N, H] of the last decision; zeros at the start.
        """
        kinds = torch.stack([serves == kind for kind in KINDS], dim=2)
        real = phase_real.float()
        buffers = {
            "masks": kinds.float().flatten(1, 2), "counts": kinds.sum(-1) / COUNT,
            "shares": (real / real.sum(-1, keepdim=True)).unsqueeze(-2),
            "encoder.static": link_static, "encoder.real": link_real.unsqueeze(-1).float(),
        }  # fmt: skip
        obs = torch.cat([links.flatten(1), phases.flatten(1), signal], dim=-1)
        if memory is None:
            return (torch.func.functional_call(self.net, buffers, (obs,)),)
        scores, after = torch.func.functional_call(_Step(self.net), {f"net.{k}": v for k, v in buffers.items()}, (obs, memory))
        return scores, after


class _Step(nn.Module):
    """One step of a net with a memory."""

    def __init__(self, net: PhaseNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, obs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        scores, after = self.net.unroll(obs.unsqueeze(0), memory)
        if after is None:
            raise RuntimeError("a net without gates has no memory")
        return scores[0], after


def memory_width(net: PhaseNet) -> int:
    """Return the width of a net's memory; 0 without one."""
    return 0 if net.gates is None else net.head.weight.shape[-1]


def random_inputs(net: PhaseNet, movements: Movements, generator: torch.Generator) -> dict[str, Tensor]:
    """Return random inputs for the signals of a network, by name."""
    n, n_phases, n_links = movements.serves.shape
    given = {
        "links": torch.rand(n, n_links, movements.link_columns, generator=generator),
        "phases": torch.rand(n, n_phases, movements.phase_columns, generator=generator),
        "signal": torch.rand(n, movements.signal_columns, generator=generator),
        "link_static": movements.link, "link_real": movements.real, "serves": movements.serves,
        "phase_real": movements.phase_real,
    }  # fmt: skip
    return given | ({"memory": torch.rand(n, width, generator=generator)} if (width := memory_width(net)) else {})


@torch.inference_mode()
def outputs(net: PhaseNet, given: dict[str, Tensor]) -> list[np.ndarray]:
    """Return what a net of the network itself makes of inputs."""
    obs = torch.cat([given["links"].flatten(1), given["phases"].flatten(1), given["signal"]], dim=-1)
    scores, memory = net.unroll(obs.unsqueeze(0), given.get("memory"))
    return [scores[0].numpy(), *([] if memory is None else [memory.numpy()])]


def export(net: PhaseNet, given: dict[str, Tensor], path: Path) -> None:
    """Write a net as ONNX; the number of signals is free, those of links and phases are the widest signal's."""
    module, sizes = ScoresOfSignals(net).eval(), torch.export.Dim("signals")
    given = {name: torch.cat([value, value]) for name, value in given.items()}  # of one signal the number would be no variable
    names = ["scores", "memory_after"][: 2 if "memory" in given else 1]
    with _silence():
        torch.onnx.export(
            module, (), str(path), kwargs=given, input_names=list(given), output_names=names, opset_version=OPSET,
            dynamo=True, external_data=False, verbose=False, dynamic_shapes={name: {0: sizes} for name in given},
        )  # fmt: skip


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Let the exporter, which warns of its own workings, say nothing."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
