"""Schema of evaluation.json and measured.json: the conditions of an evaluation and, by policy, the metrics of each episode."""

import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel


def _check_episode(row: dict[str, float]) -> dict[str, float]:
    infinite = [name for name, value in row.items() if math.isinf(value)]
    if infinite:
        raise ValueError(f"{infinite[0]} is infinite")
    if "delay" not in row or not row.get("seed", -1) >= 0 or row["seed"] % 1:
        raise ValueError("an episode needs a delay, and a seed of at least 0")
    return row


class Evaluation(BaseModel):
    """Content of a file. Its conditions, other than the network, are compared and not read."""

    network: str
    results: dict[str, list[Annotated[dict[str, float], AfterValidator(_check_episode)]]]
    """A metric is nan where it is not defined."""
