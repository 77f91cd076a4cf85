"""Files of exported trainings: their format, and how they are checked, read and written."""

import gzip
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from tsc_marl.errors import UserError
from tsc_marl.evaluation.evaluate import conditions_today
from tsc_marl.tracking import renames, sealed
from tsc_marl.tracking.training_record import (
    FINAL,
    EvaluationRows,
    Key,
    Name,
    Params,
    Points,
    StoredTraining,
    Text,
    TrainingRecord,
    TrainingTags,
    validate,
)

FORMAT = 1
SUFFIX = ".json.gz"
LARGEST_BYTES = 100_000_000
"""Largest size of a file when unpacked."""
END_OF_TIME_MS = 253_402_300_799_999
"""The last millisecond that Python has a date for."""
Milliseconds = Annotated[int, Field(ge=0, le=END_OF_TIME_MS)]


class _RunHead(BaseModel, frozen=True):
    name: Annotated[Text, Field(min_length=1)]
    start_ms: Milliseconds
    end_ms: Milliseconds | None
    all_tags: Annotated[dict[Key, Text], Field(alias="tags")]

    @model_validator(mode="after")
    def _own_tags(self) -> "_RunHead":
        if reserved := [key for key in self.all_tags if key.startswith("mlflow.")]:
            raise ValueError(f"the tag {reserved[0]} is MLflow's own")
        return self


class _FamilyTags(BaseModel):
    folder: Name
    kind: Literal["comparison"]
    network: Name


class _Family(_RunHead, frozen=True):
    """Run of the command that started the trainings."""

    tags: _FamilyTags
    params: Params
    metrics: dict[Key, Points]


class _ExportedTags(TrainingTags, frozen=True):
    folder: Name
    kind: Literal["training"]
    network: Name


class _ExportedRun(TrainingRecord, _RunHead, frozen=True):
    tags: _ExportedTags

    @model_validator(mode="after")
    def _evaluated(self) -> "_ExportedRun":
        if FINAL not in self.metrics:
            raise ValueError(f"the metric {FINAL} is missing")
        return self


class _ExportedTraining(StoredTraining, frozen=True):
    run: _ExportedRun


class _File(BaseModel):
    """Fields that a file must have; it may have more."""

    network: Name
    run: _Family
    evaluation: EvaluationRows
    trainings: Annotated[list[_ExportedTraining], Field(min_length=1)]
    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)]

    @model_validator(mode="after")
    def _of_one_command(self) -> "_File":
        for i, training in enumerate(self.trainings):
            tags, family = training.run.tags, self.run.tags
            if (tags.folder, tags.network, family.network) != (family.folder, self.network, self.network):
                raise ValueError(f"the tags folder and network of training {i} are not those of the file")
        (trained, times), *_ = Counter((t.run.tags.algorithm, int(t.run.tags.seed)) for t in self.trainings).most_common(1)
        if times > 1:
            raise ValueError(f"{trained[0]} with seed {trained[1]} is there twice")
        return self


def check_training(training: dict[str, Any]) -> dict[str, Any]:
    """Return a training of a file, as it is.

    Raises:
        ValueError: in one line, when `read_file` would refuse it.
    """
    validate(_ExportedTraining, training)
    return training


def pack(content: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file with a checksum; the same content has the same bytes.

    Raises:
        ValueError: in one line, for a content that `read_file` would refuse.
    """
    validate(_File, content)
    text = sealed.dumps(content).encode()
    if len(text) > LARGEST_BYTES:
        raise ValueError(f"its content: {len(text) / 1e6:.0f} MB are more than {LARGEST_BYTES / 1e6:.0f}")
    return gzip.compress(text, mtime=0)


def read_file(path: Path) -> dict[str, Any]:
    """Return the checked content of a file, in the names of today.

    Raises:
        UserError: when it cannot be read, is damaged, or no export.
    """
    try:
        if not path.is_file():
            raise ValueError("it is no regular file")
        with gzip.open(path) as file:
            text = file.read(LARGEST_BYTES + 1)
        if len(text) > LARGEST_BYTES:
            raise ValueError(f"it unpacks to more than {LARGEST_BYTES / 1e6:.0f} MB")
        content = sealed.loads(text, dict)
        version = content.get("format")
        if isinstance(version, int) and version != FORMAT:
            raise UserError(f"{path} is of another version of this program (format {str(version)[:20]}, not {FORMAT})")
        validate(_File, content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        reason = f"{type(error).__name__}: {error}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    else:
        return content | _today(content) | {"trainings": [_today(training) for training in content["trainings"]]}
    raise UserError(f"{path} is no exported training ({' '.join(reason.split())[:300]}); leave it out, or export it again")


def _today(part: dict[str, Any]) -> dict[str, Any]:
    """Return a run and its evaluation in the names of today."""
    run, evaluation = part["run"], part["evaluation"]
    if "algorithm" in run["tags"]:
        run = run | {"tags": run["tags"] | {"algorithm": renames.variant(run["tags"]["algorithm"])}}
    return {"run": run | {"params": renames.settings(run["params"])}, "evaluation": conditions_today(evaluation)}
