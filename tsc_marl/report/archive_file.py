"""Files of exported trainings: their format, and how they are checked and read."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from tsc_marl.errors import UserError
from tsc_marl.evaluation.evaluate import conditions_today
from tsc_marl.tracking import renames

FORMAT = 1
SUFFIX = ".json.gz"
Name = Annotated[str, StringConstraints(pattern=r"^\w[^/\\]*$")]
"""Name of a run's folder."""
Points = tuple[list[int], list[float]]
"""Curve of a metric: steps and values."""


class _Row(BaseModel):
    delay: float


class _Evaluation(BaseModel):
    results: Annotated[dict[str, Annotated[list[_Row], Field(min_length=1)]], Field(min_length=1)]


class _RunRecord(BaseModel):
    name: str
    start_ms: int
    end_ms: int | None
    params: dict[str, str]


class _FamilyTags(BaseModel):
    folder: Name


class _ParentRun(_RunRecord):
    tags: _FamilyTags
    metrics: dict[str, Points]


class _TrainingTags(_FamilyTags):
    algorithm: str
    seed: Annotated[str, StringConstraints(pattern=r"^\d+$")]
    sumo_version: str
    git_commit: str


class _Curves(BaseModel):
    episode: Points
    steps: Points
    delay: Points
    minutes: Points


class _TrainingRecord(_RunRecord):
    tags: _TrainingTags
    metrics: _Curves


class _TrainingRun(BaseModel):
    run: _TrainingRecord
    evaluation: _Evaluation


class _File(BaseModel):
    """Fields that a file must have; it may have more."""

    network: Name
    run: _ParentRun
    evaluation: _Evaluation
    trainings: Annotated[list[_TrainingRun], Field(min_length=1)]
    format: int


def read_file(path: Path) -> dict[str, Any]:
    """Return the checked content of a file, in the names of today."""
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
        version = content.get("format") if isinstance(content, dict) else None
        if version not in (None, FORMAT):
            raise UserError(f"{path} is of another version of this program (format {version}, not {FORMAT})")
        _File.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'its content'}: {first['msg']}"
    except (OSError, EOFError, zlib.error, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
    else:
        return content | _today(content) | {"trainings": [_today(training) for training in content["trainings"]]}
    raise UserError(f"{path} is no exported training ({reason}); leave it out, or export it again")


def _today(part: dict[str, Any]) -> dict[str, Any]:
    """Return a run and its evaluation in the names of today."""
    run, evaluation = part["run"], part["evaluation"]
    if "algorithm" in run["tags"]:
        run = run | {"tags": run["tags"] | {"algorithm": renames.variant(run["tags"]["algorithm"])}}
    return {"run": run | {"params": renames.settings(run["params"])}, "evaluation": conditions_today(evaluation)}
