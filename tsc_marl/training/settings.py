"""Text files of a run's folder: its command, its settings, which a resumed run keeps, and its run in the store."""

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from tsc_marl import algos, old_options
from tsc_marl.config import ExperimentConfig, parse
from tsc_marl.errors import UserError
from tsc_marl.paths import temporary_folder
from tsc_marl.sim.scenario import reference
from tsc_marl.tracking import renames, sealed
from tsc_marl.tracking.run_folder import RunFolder


class _Command(BaseModel, extra="forbid"):
    words: list[str]


class _Settings(BaseModel):
    """Settings that every version has written; others may be missing and have their defaults."""

    network: str | list[str]
    algos: list[str]
    seeds: list[int]
    episodes: int
    algo: dict[str, Any]


class _ParentId(BaseModel, extra="forbid"):
    run_id: str


def write(folder: RunFolder, argv: Sequence[str], experiment: ExperimentConfig) -> None:
    """Write the words of the command line, and the settings that they stand for."""
    sealed.write(folder.command, {"words": list(argv)})
    names = [reference(name) for name in experiment.network]
    sealed.write(folder.config, asdict(experiment) | {"network": names[0] if len(names) == 1 else names})


def read_command(folder: RunFolder) -> list[str]:
    """Return the words of the command line of a run; earlier versions wrote the list alone.

    Raises:
        UserError: when they cannot be read.
    """
    advice = 'restore it, or write the words of the command into it, as ["--network", "cross"]'
    content = sealed.read(folder.command, _Command | list[str], advice)
    return content if isinstance(content, list) else content["words"]


def write_parent_id(folder: RunFolder, run_id: str) -> None:
    """Write the id of the parent run in the tracking store."""
    sealed.write(folder.parent_id, {"run_id": run_id})


def read_parent_id(folder: RunFolder) -> str:
    """Return the id of the parent run in the tracking store, empty for none; earlier versions wrote the id alone.

    Raises:
        UserError: when it cannot be read.
    """
    path = folder.parent_id
    if not path.exists():
        return ""
    if path.is_file() and re.fullmatch(rb"[0-9a-f]{32}", plain := path.read_bytes()):
        return plain.decode()
    return sealed.read(path, _ParentId, "remove it, and the run gets a new parent in the tracking store")["run_id"]


def read(folder: RunFolder) -> ExperimentConfig:
    """Return the settings of a run.

    Raises:
        UserError: when they cannot be read, or a setting does not exist in this version.
    """
    path = folder.config if folder.config.exists() else folder.old_configs
    try:
        if path == folder.old_configs:
            return _from_command(folder)
        content = sealed.loads(path.read_bytes(), _Settings | list[_Settings])
        return _experiment(_joined(content) if isinstance(content, list) else content)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError, yaml.YAMLError) as error:
        reason = f"its settings cannot be read ({path}: {sealed.first_line(error)})"
        raise UserError(f"run {folder.name} cannot go on, {reason}; restore them, or train again") from None


def _joined(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the settings of a run that has one entry for each algorithm, as earlier versions wrote them."""
    first = entries[0]
    return first | {"algo": {name: entry["algo"] for name, entry in zip(first["algos"], entries, strict=True)}}


def _experiment(values: dict[str, Any]) -> ExperimentConfig:
    own = values["algo"]
    if own.keys() != set(values["algos"]):
        raise ValueError(f"settings of {', '.join(own) or 'no algorithm'}, not of {', '.join(values['algos'])}")
    algo = {name: sealed.dataclass_from(algos.find(name).Config, own[name], "algo.") for name in values["algos"]}
    network = values["network"]
    names = [network] if isinstance(network, str) else network
    return replace(sealed.dataclass_from(ExperimentConfig, {**values, "network": names, "algo": {}}), algo=algo)


def _from_command(folder: RunFolder) -> ExperimentConfig:
    """Return the settings of a run of an earlier version, from its command line and its copy of configs/."""
    words = old_options.replace(read_command(folder))
    with temporary_folder() as copied:
        for path in folder.old_configs.rglob("*.yaml"):
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            today = Path(copied, path.parent.relative_to(folder.old_configs), f"{renames.variant(path.stem)}.yaml")
            today.parent.mkdir(exist_ok=True)
            today.write_text(
                yaml.safe_dump(renames.algorithm_settings(values) if path.parent.name == "algos" else values), encoding="utf-8"
            )
        return parse(words, Path(copied))
