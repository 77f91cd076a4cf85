"""Settings of a run as a file: a resumed run keeps the settings of its start."""

import json
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from tsc_marl import algos, old_options
from tsc_marl.config import ExperimentConfig, parse
from tsc_marl.errors import UserError
from tsc_marl.paths import temporary_folder
from tsc_marl.sim.scenario import reference
from tsc_marl.tracking import renames
from tsc_marl.tracking.run_folder import RunFolder


def to_json(experiment: ExperimentConfig) -> str:
    """Return the settings of a run."""
    return json.dumps(asdict(experiment) | {"network": reference(experiment.network)}, indent=1)


def read(folder: RunFolder) -> ExperimentConfig:
    """Return the settings of a run.

    Raises:
        UserError: when they cannot be read, or a setting does not exist in this version.
    """
    try:
        if not folder.config.exists():
            return _from_command(folder)
        content = json.loads(folder.config.read_text(encoding="utf-8"))
        return _experiment(_joined(content) if isinstance(content, list) else content)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"run {folder.name} cannot go on, its settings cannot be read ({reason}); train again") from None


def _joined(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the settings of a run that has one entry for each algorithm, as earlier versions wrote them."""
    first = entries[0]
    return first | {"algo": {name: entry["algo"] for name, entry in zip(first["algos"], entries, strict=True)}}


def _experiment(values: dict[str, Any]) -> ExperimentConfig:
    algo = {name: _load(algos.find(name).Config, own, "algo.") for name, own in values["algo"].items()}
    return _load(ExperimentConfig, values | {"algo": algo})


def _load(kind: type, values: dict[str, Any], prefix: str = "") -> Any:
    """Return a dataclass of settings; lists become tuples."""
    types = {field.name: field.type for field in fields(kind)}
    unknown = sorted(values.keys() - types.keys())
    if unknown:
        raise ValueError(f"this version has no setting {prefix}{unknown[0]}")
    parts = {
        name: _load(inner, value, f"{prefix}{name}.")
        for name, value in values.items()
        if isinstance(inner := types[name], type) and is_dataclass(inner) and isinstance(value, dict)
    }
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return kind(**plain | parts)


def _from_command(folder: RunFolder) -> ExperimentConfig:
    """Return the settings of a run of an earlier version, from its command line and its copy of configs/."""
    words = old_options.replace(json.loads(folder.command.read_text(encoding="utf-8")))
    with temporary_folder() as copied:
        for path in folder.old_configs.rglob("*.yaml"):
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            today = Path(copied, path.parent.relative_to(folder.old_configs), f"{renames.variant(path.stem)}.yaml")
            today.parent.mkdir(exist_ok=True)
            today.write_text(
                yaml.safe_dump(renames.algorithm_settings(values) if path.parent.name == "algos" else values), encoding="utf-8"
            )
        return parse(words, Path(copied))
