"""Checkpoints: the file with the state of a training, its format, how it is checked, and how older formats load."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import AfterValidator, ConfigDict, Field, Strict, StrictStr, TypeAdapter
from torch import Tensor

from tsc_marl import algos
from tsc_marl.errors import UserError
from tsc_marl.rollout.policies import TrainedPolicy
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.fingerprint import listed
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.tracking import curves, renames, sealed, tensor_file

FORMAT = 4
"""Version of the file. Formats 2 and 3 were torch's own files, and format 2 had older names (`renames`)."""

Settings = dict[StrictStr, Any]
Natural = Annotated[int, Strict(), Field(ge=0)]


def _check_training(state: dict[str, Any]) -> dict[str, Any]:
    weights = state.get("weights")
    if not (isinstance(weights, dict) and all(isinstance(tensor, Tensor) for tensor in weights.values())):
        raise ValueError("its weights are no tensors by name")
    return state


def _check_history(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    for row in rows:
        if not row.keys() >= {"episode", "steps", "delay", "reward", "minutes"}:
            raise ValueError(f"a row has {', '.join(row)}")
        if not all(math.isfinite(value) for name, value in row.items() if not name.startswith("delay")):  # no vehicle, no delay
            raise ValueError("a row is not finite")
    for name in ("episode", "steps"):
        if any(after[name] <= before[name] for before, after in pairwise([{name: 0.0}, *rows])):
            raise ValueError(f"{name} does not rise from row to row")
    return rows


def _check_others(others: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    for name, state in others.items():
        if state.keys() != {"buffers", "replay", "fingerprint"} or not isinstance(state["fingerprint"], dict):
            raise ValueError(f"the state of {name} has {', '.join(state)}")
        _check_training({"weights": state["buffers"]})
    return others


def _check_metrics(state: dict[str, Any]) -> dict[str, Any]:
    if state:
        curves.check_state(state)
    return state


@dataclass(frozen=True)
class Checkpoint:
    """State of one training. A new field needs a default, for files without it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    network: StrictStr
    """The network of the training; of several, the first."""
    algorithm: StrictStr
    seed: Natural
    sim: Settings
    """Settings of observation and reward."""
    timing: Settings
    """Settings of the signal timing."""
    config: Settings
    """Settings of the algorithm."""
    training: Annotated[dict[StrictStr, Any], AfterValidator(_check_training)]
    """As `Algorithm.training_state` returns it."""
    episode: Natural
    """Episodes played."""
    history: Annotated[list[dict[StrictStr, Annotated[float, Strict()]]], AfterValidator(_check_history)]
    """A row for each update."""
    mlflow_id: StrictStr
    replay: dict[StrictStr, Any] | None = None
    """State of the replay buffer."""
    fingerprint: dict[StrictStr, Any] = field(default_factory=dict)
    """The signals and files of the training (`sim.fingerprint.of_training`); empty in files of earlier versions."""
    observation_version: Natural = 1
    """`Observation.version` of the training."""
    others: Annotated[dict[StrictStr, Settings], AfterValidator(_check_others)] = field(default_factory=dict)
    """Of the further networks of the training by name: `buffers`, the state beside the weights, `replay` and `fingerprint`."""
    before: StrictStr = ""
    """What the weights that the training started from had learned from."""
    metrics: Annotated[dict[StrictStr, Any], AfterValidator(_check_metrics)] = field(default_factory=dict)
    """Metrics of every update (`curves.Metrics.state`); empty in files of earlier versions."""

    def weights_only(self) -> "Checkpoint":
        """Return what acting and fine-tuning need; a training cannot go on from it."""
        signals = {} if self.policy(self.network).portable else self.fingerprint
        weights = {"weights": self.training["weights"]}
        last = self.history[-1:]
        others: dict[str, Settings] = {name: {"buffers": {}, "replay": None, "fingerprint": {}} for name in self.others}
        return replace(
            self, training=weights, history=last, mlflow_id="", replay=None, fingerprint=signals, others=others, metrics={}
        )

    def averaged(self, earlier: "Sequence[Checkpoint]") -> "Checkpoint":
        """Return it with the mean of its weights and those of earlier states of its training."""
        states = [saved.training["weights"] for saved in (self, *earlier)]
        weights = {
            name: torch.stack([state[name] for state in states]).mean(0) if tensor.is_floating_point() else tensor
            for name, tensor in states[0].items()
        }
        return replace(self, training=self.training | {"weights": weights})

    @property
    def origin(self) -> str:
        """What the weights learned from, as part of a sentence."""
        own = f"{self.episode} episodes with {self.algorithm} on {listed(self.networks)}"
        return f"{own}, after {self.before}" if self.before else own

    @property
    def networks(self) -> list[str]:
        """Names of the networks of the training."""
        return [self.network, *self.others]

    def policy(self, network: str) -> TrainedPolicy:
        """Return the trained policy.

        Raises:
            UserError: when it was trained on another network and is not portable, or has settings unknown here.
        """
        name, kind = self.algorithm, algos.find(self.algorithm).Config
        for settings, expected in ((self.config, kind), (self.sim, SimConfig), (self.timing, Timing)):
            unknown = settings.keys() - {field.name for field in fields(expected)}
            if unknown:
                raise UserError(f"the policy of {name} has a setting {min(unknown)} that this version does not know; train again")
        try:
            config, sim = sealed.dataclass_from(kind, self.config), sealed.dataclass_from(SimConfig, self.sim)
        except ValueError as error:
            raise UserError(f"the policy of {name} has a setting of another type ({error}); train again") from None
        signals = self.others.get(network, vars(self)).get("fingerprint", {}).get("signals")
        policy = TrainedPolicy(name, config, self.training["weights"], sim, signals, self.observation_version)
        policy.check_network(self.networks, network)
        return policy


_SCHEMA = TypeAdapter(Checkpoint)


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint; a crash in the middle leaves the last one whole.

    Raises:
        UserError: when the disk does not take it, or when weights are not finite.
    """
    left = "the last one is whole" if path.exists() else "there is none yet"
    damaged = _first_not_finite(checkpoint)
    if damaged:
        raise UserError(f"checkpoint {path} is not written, its weights {damaged} are not finite; {left}")
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {name: value for name, value in vars(checkpoint).items() if name not in ("others", "metrics") or value}
    tensor_file.save(path, {"format": FORMAT, **content}, f"{left}; free some disk space and resume")


def load(path: Path) -> Checkpoint:
    """Read a checkpoint of this format or of one of the two before.

    Raises:
        UserError: when the file is missing, damaged, no checkpoint of this program, or when its weights are not finite.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        content = tensor_file.load(path)
    except ValueError as error:
        raise UserError(f"checkpoint {path} cannot be read ({error}): it is damaged or cut short; use another") from None
    try:
        saved = _checked(content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # an old format may lack any part
        reason = f"expected format {FORMAT}, 3 or 2; {sealed.first_line(error)}"
        raise UserError(f"checkpoint {path} is not of this program ({reason}); train again") from None
    damaged = _first_not_finite(saved)
    if damaged:
        raise UserError(f"checkpoint {path} has weights {damaged} that are not finite; use an earlier one, or train again")
    return saved


def _first_not_finite(checkpoint: Checkpoint) -> str | None:
    tensors = (checkpoint.training["weights"], *(state["buffers"] for state in checkpoint.others.values()))
    return next(filter(None, map(tensor_file.first_not_finite, tensors)), None)


def _checked(content: Any) -> Checkpoint:
    version = content.pop("format", None) if isinstance(content, dict) else None
    if version not in (2, 3, FORMAT):
        raise ValueError(f"its format is {version}")
    content["config"] = renames.algorithm_settings(content["config"])
    saved = _SCHEMA.validate_python(_from_format_2(content) if version == 2 else content)
    end = saved.history[-1]["episode"] if saved.history else 0
    if saved.episode != end:
        raise ValueError(f"its episode is {saved.episode}, its history ends at {end:.0f}")
    return saved


def _from_format_2(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content in today's names."""
    today = renames.renamed(content, renames.EVALUATION_PARTS)
    training, replay = today["training"], today.get("replay")
    today["algorithm"] = renames.variant(today["algorithm"])
    today["training"] = training | {"weights": renames.weights(training["weights"])}
    if replay is not None:
        today["replay"] = replay | {"extras": renames.renamed(replay["extras"], renames.EXTRAS)}
    return today
