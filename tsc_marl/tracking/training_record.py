"""Schema of a finished training: what a comparison needs of a run in the store, or in an exported file."""

import json
import math
import posixpath
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, FiniteFloat, StringConstraints, ValidationError, model_validator

CURVES = ("episode", "steps", "delay", "minutes")
"""Metrics of every training, logged together."""
SETTINGS = ("episodes", "eval_seeds", "sim.reward")
"""Settings that a comparison reads by name."""
FINAL = "eval/delay"
"""Metric that a training has after its final evaluation."""


def _short(name: str) -> str:
    """Refuse a name that no file system takes, with a suffix added."""
    if len(name.encode()) > 240:
        raise ValueError("String should have at most 240 bytes")
    return name


def _key(name: str) -> str:
    """Refuse a name that MLflow does not take."""
    if (
        not re.fullmatch(r"[\w.\- :/]{1,250}", name)
        or posixpath.normpath(name) != name
        or name.startswith(("/", ".."))
        or name == "."
    ):
        raise ValueError("MLflow does not take this name")
    return name


def _defined(value: float) -> float:
    if math.isinf(value):
        raise ValueError("Input should be a finite number, or nan")
    return value


def _increasing(points: tuple[list[int], list[float]]) -> tuple[list[int], list[float]]:
    steps, values = points
    if len(steps) != len(values):
        raise ValueError(f"{len(steps)} steps have {len(values)} values")
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise ValueError("its steps do not increase")
    return points


def _needed(params: dict[str, str]) -> dict[str, str]:
    if missing := [name for name in SETTINGS if name not in params]:
        raise ValueError(f"{missing[0]} is missing")
    if not re.fullmatch(r"[1-9][0-9]{0,8}", params["episodes"]):
        raise ValueError(f"episodes is {params['episodes'][:50]!r}, no number of episodes")
    return params


Number = Annotated[float, AfterValidator(_defined)]
Text = Annotated[str, StringConstraints(max_length=8000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$")]
Name = Annotated[str, StringConstraints(pattern=r"^\w[^/\\\x00-\x1f\x7f]*$"), AfterValidator(_short)]
"""Name that becomes a file name."""
Key = Annotated[str, AfterValidator(_key)]
"""Name of a metric, setting or tag."""
Step = Annotated[int, Field(ge=0, le=2**53)]
Points = Annotated[
    tuple[Annotated[list[Step], Field(min_length=1)], Annotated[list[FiniteFloat], Field(min_length=1)]],
    AfterValidator(_increasing),
]
"""Curve of a metric: steps and values."""
Params = dict[Key, Annotated[Text, StringConstraints(max_length=6000)]]


class EpisodeRow(BaseModel, extra="allow"):
    """Metrics of an evaluation episode by their labels; nan where one is not defined."""

    __pydantic_extra__: dict[str, Number] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    delay: FiniteFloat


class EvaluationRows(BaseModel):
    """Evaluation: the same seeds for all policies, and the same metrics in all episodes of a policy."""

    demand: dict[str, Any] = {}
    results: Annotated[dict[Text, Annotated[list[EpisodeRow], Field(min_length=1)]], Field(min_length=1)]

    @model_validator(mode="after")
    def _alike(self) -> "EvaluationRows":
        seeds = [row.seed for row in next(iter(self.results.values()))]
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed was played twice")
        for name, rows in self.results.items():
            if [row.seed for row in rows] != seeds:
                raise ValueError(f"{name[:50]} was played on other seeds than the first")
            if any(row.__pydantic_extra__.keys() != rows[0].__pydantic_extra__.keys() for row in rows):
                raise ValueError(f"{name[:50]} has other metrics in some episodes")
        return self

    @property
    def seeds(self) -> list[int]:
        """SUMO seeds of the episodes."""
        return [row.seed for row in next(iter(self.results.values()))]


class TrainingTags(BaseModel, frozen=True):
    """Tags that a comparison reads."""

    algorithm: Name
    seed: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,3}$")]
    sumo_version: Text
    git_commit: Text
    networks: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}$")] = "1"
    """Number of networks, each with as many episodes."""


class TrainingRecord(BaseModel, frozen=True):
    """Run of a training: its curves have the same steps and reach the last episode."""

    tags: TrainingTags
    params: Annotated[Params, AfterValidator(_needed)]
    metrics: dict[Key, Points]

    @model_validator(mode="after")
    def _whole(self) -> "TrainingRecord":
        if missing := [name for name in CURVES if name not in self.metrics]:
            raise ValueError(f"the curve of {missing[0]} is missing")
        if other := [name for name in CURVES if self.metrics[name][0] != self.metrics["episode"][0]]:
            raise ValueError(f"the curves of episode and {other[0]} have different steps")
        played, planned = self.metrics["episode"][1], int(self.params["episodes"]) * int(self.tags.networks)
        if played[-1] != planned:
            raise ValueError(f"the curves of {played[-1]:.0f} of {planned} episodes")
        if any(later <= earlier for name in ("episode", "steps") for earlier, later in pairwise(self.metrics[name][1])):
            raise ValueError("the curves of episode and steps do not increase")
        if min(played[0], self.metrics["steps"][1][0]) <= 0 or min(self.metrics["minutes"][1]) < 0:
            raise ValueError("the curves of episode, steps and minutes are not positive")
        return self


class StoredTraining(BaseModel, frozen=True):
    """A training with its evaluation, which has one policy and the seeds of the settings."""

    run: TrainingRecord
    evaluation: EvaluationRows

    @model_validator(mode="after")
    def _one_policy(self) -> "StoredTraining":
        if len(self.evaluation.results) > 1:
            raise ValueError("the evaluation of a training has more than one policy")
        seeds = tuple(self.evaluation.seeds)
        if str(seeds)[:6000] != self.run.params["eval_seeds"]:  # the store cuts longer ones
            raise ValueError(f"the evaluation has the seeds {str(seeds)[:60]}, the setting eval_seeds others")
        return self


def validate(schema: type[BaseModel], content: Mapping[str, Any]) -> None:
    """Check content as JSON has it.

    Raises:
        ValueError: in one line: place, what is wrong, and the value there.
    """
    try:
        schema.model_validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        value = first["input"]
        got = "" if isinstance(value, dict | list) or first["type"] == "missing" else f"; got {str(value)[:50]!r}"
        place = ".".join(str(part)[:80] for part in first["loc"]) or "its content"
        raise ValueError(" ".join(f"{place}: {first['msg'].removeprefix('Value error, ')}{got}".split())) from None
