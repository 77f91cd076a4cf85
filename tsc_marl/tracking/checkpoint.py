"""Checkpoints: the file with the state of a training, its format, and how older formats load."""

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from tsc_marl import algos
from tsc_marl.errors import UserError
from tsc_marl.rollout.policies import TrainedPolicy
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.tracking import renames

FORMAT = 3
"""Version of the file. Format 2 had older names (`renames`)."""


@dataclass(frozen=True)
class Checkpoint:
    """State of one training."""

    network: str
    algorithm: str
    seed: int
    sim: dict[str, Any]
    """Settings of observation and reward."""
    timing: dict[str, Any]
    """Settings of the signal timing."""
    config: dict[str, Any]
    """Settings of the algorithm."""
    training: dict[str, Any]
    """As `Algorithm.training_state` returns it."""
    episode: int
    """Episodes played."""
    history: list[dict[str, float]]
    """A row for each update."""
    mlflow_id: str
    replay: dict[str, Any] | None = None
    """State of the replay buffer."""
    fingerprint: dict[str, Any] = field(default_factory=dict)
    """The signals and files of the training (`sim.fingerprint.of_training`); empty in files of earlier versions."""

    def policy(self, network: str) -> TrainedPolicy:
        """Return the trained policy.

        Raises:
            UserError: when it was trained on another network, or has settings unknown here.
        """
        name, kind = self.algorithm, algos.find(self.algorithm).Config
        if self.network != network:
            raise UserError(f"the policy of {name} was trained on {self.network}, not {network}; use the same")
        for settings, expected in ((self.config, kind), (self.sim, SimConfig), (self.timing, Timing)):
            unknown = settings.keys() - {field.name for field in fields(expected)}
            if unknown:
                raise UserError(f"the policy of {name} has a setting {min(unknown)} that this version does not know; train again")
        signals = self.fingerprint.get("signals")
        return TrainedPolicy(name, kind(**self.config), self.training["weights"], SimConfig(**self.sim), signals)


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint; a crash in the middle leaves the last one whole.

    Raises:
        UserError: when the disk does not take it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    try:
        torch.save({"format": FORMAT, **vars(checkpoint)}, new)
    except (OSError, RuntimeError) as error:  # RuntimeError is torch's way to say that a disk is full
        new.unlink(missing_ok=True)
        left = "the last one is whole" if path.exists() else "there is none yet"
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"checkpoint {path} cannot be written ({reason}); {left}; free some disk space and resume") from None
    os.replace(new, path)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint of this format or the one before.

    Raises:
        UserError: when the file is missing, cut short, or no checkpoint of this program.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        content = torch.load(path, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UserError(
            f"checkpoint {path} cannot be read ({type(error).__name__}): it is damaged or cut short; use another"
        ) from None
    version = content.pop("format", None) if isinstance(content, dict) else None
    if version in (2, FORMAT):
        try:
            return Checkpoint(**(_from_format_2(content) if version == 2 else content))
        except (TypeError, KeyError, AttributeError):
            pass
    raise UserError(f"checkpoint {path} is not of this program (expected format {FORMAT} or 2); train again")


def _from_format_2(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content in today's names."""
    today = renames.renamed(content, renames.EVALUATION_PARTS)
    training, replay = today["training"], today.get("replay")
    today["algorithm"] = renames.variant(today["algorithm"])
    today["config"] = renames.algorithm_settings(today["config"])
    today["training"] = training | {"weights": renames.weights(training["weights"])}
    if replay is not None:
        today["replay"] = replay | {"extras": renames.renamed(replay["extras"], renames.EXTRAS)}
    return today
