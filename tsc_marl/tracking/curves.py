"""Curves of a training: few of them are metrics in MLflow, over episodes; all of them are tables beside the run.

Inside the program a curve has the name that the learning code gives it, such as `policy/entropy` or `agent/A0/kl`, and its
steps are decisions. In MLflow a name says its unit, and steps are episodes.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsc_marl.errors import UserError

TRAINING = {
    "delay": "delay_s", "reward": "reward", "steps": "decisions", "minutes": "training_min",
    "policy/entropy": "entropy_nat", "policy/epsilon": "epsilon", "policy/kl": "kl_nat", "policy/clipped": "clipped_share",
    "loss/policy": "policy_loss", "loss/critic": "critic_loss", "loss/q": "q_loss",
    "value/explained_variance": "explained_variance", "critic/trust": "critic_trust",
    "seconds/simulation": "simulation_s", "seconds/acting": "acting_s", "seconds/learning": "learning_s",
}  # fmt: skip
"""Metric in MLflow of each curve that a person follows; the seconds are of one episode."""
FINAL = {
    "eval/delay": "eval_delay_s", "eval/median_delay": "eval_delay_median_s", "eval/delay_p95": "eval_delay_p95_s",
    "eval/worst_approach": "eval_worst_approach_s", "eval/stops": "eval_stops_per_veh", "eval/queue": "eval_queue_veh",
    "eval/arrived": "eval_arrived_veh", "eval/never_inserted": "eval_never_inserted_veh",
    "eval/gridlock": "eval_gridlock_share",
}  # fmt: skip
"""Metric in MLflow of each figure of the final evaluation."""
SHOWN = TRAINING | FINAL
DELAY, EPISODE, DECISIONS = TRAINING["delay"], "episode", TRAINING["steps"]
OF_SIGNAL = "agent/"
"""Before the name of a signal: a curve of it is called `agent/<signal>/<metric>`."""
CURVES, SIGNALS = "curves.csv", "signals.csv"
"""Artifacts of a training: a row for each update, and a row for each update and signal."""
CHECKSUM = "mlflow.tsc_marl.sha256."
"""Before the name of a table: tag with its checksum. MLflow hides such tags, exports leave them out."""

Curves = dict[str, np.ndarray]
"""Steps and values [n, 2] of each curve by its name."""


class Metrics:
    """Metrics of all updates of a training, in the order of the updates; nan where an update has none of a name."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        """Make an empty one, or that of `state`."""
        self._updates: list[tuple[tuple[str, ...], np.ndarray]] = []
        if state:
            names = tuple(state["names"])
            self._updates = [(names, row) for row in state["values"].numpy()]

    def append(self, metrics: Mapping[str, float]) -> None:
        """Add the metrics of the next update."""
        names = tuple(metrics)
        last = self._updates[-1][0] if self._updates else ()
        self._updates.append((last if last == names else names, np.fromiter(metrics.values(), float, len(names))))

    def state(self) -> dict[str, Any]:
        """Return `names` of the metrics, and `values` [U, K]."""
        columns = {name: k for k, name in enumerate(dict.fromkeys(name for names, _ in self._updates for name in names))}
        values = np.full((len(self._updates), len(columns)), np.nan)
        for row, (names, given) in zip(values, self._updates, strict=True):
            row[[columns[name] for name in names]] = given
        return {"names": list(columns), "values": torch.from_numpy(values)}

    def rows(self) -> list[dict[str, float]]:
        """Return the metrics of each update."""
        return [dict(zip(names, values.tolist(), strict=True)) for names, values in self._updates]

    def curves(self) -> Curves:
        """Return the curves over decisions."""
        state = self.state()
        columns = dict(zip(state["names"], state["values"].numpy().T, strict=True))
        return {name: _defined(columns["steps"], values) for name, values in columns.items()}


def check_state(state: Mapping[str, Any]) -> None:
    """Refuse what is no result of `Metrics.state`.

    Raises:
        ValueError: in one line.
    """
    names, values = state.get("names"), state.get("values")
    if not (isinstance(names, list) and isinstance(values, Tensor) and values.shape[1:] == (len(names),)):
        raise ValueError("its metrics of the updates have no names, or no values")


def shown(metrics: Mapping[str, float], named: Iterable[str] = ()) -> dict[str, float]:
    """Return the metrics that a person follows, by their names in MLflow.

    Args:
        metrics: by their names inside the program.
        named: labels of the figures of the final evaluation that the user asked for.
    """
    names = {f"eval/{label}": f"eval_{label}" for label in named} | SHOWN
    return {names[name]: value for name, value in metrics.items() if name in names}


def is_evaluated(metrics: Mapping[str, float]) -> bool:
    """Return whether a stored training has its final evaluation; the metrics of earlier versions have other names."""
    return FINAL["eval/delay"] in metrics or "eval/delay" in metrics


def stored_names(names: Iterable[str]) -> set[str]:
    """Return the names that curves may have in the store: those of today, and those of earlier versions."""
    return {stored for name in names for stored in (name, SHOWN.get(name, DECISIONS))}


def from_store(stored: Curves) -> Curves:
    """Return the curves over decisions of a training, from its metrics in the store."""
    if not len(stored.get(DELAY, ())):
        return dict(stored)  # of an earlier version
    episodes, decisions = stored[DECISIONS].T
    own = {stored_name: name for name, stored_name in SHOWN.items()}
    curves = {own[name]: _moved(points, episodes, decisions) for name, points in stored.items() if name in own and len(points)}
    return curves | {EPISODE: np.stack([decisions, episodes], 1)}


def for_store(curves: Curves) -> Curves:
    """Return the metrics for the store, over episodes, of a training."""
    decisions, episodes = curves[EPISODE].T
    return {SHOWN[name]: _moved(points, decisions, episodes) for name, points in curves.items() if name in SHOWN}


def write(curves: Curves, folder: Path) -> list[Path]:
    """Write the tables of a training; that of signals only where a curve is of a signal."""
    import pandas as pd

    steps = np.unique(np.concatenate([points[:, 0] for name, points in curves.items() if name not in FINAL]))
    columns = {name: pd.Series(points[:, 1], points[:, 0]).reindex(steps) for name, points in curves.items() if name not in FINAL}
    team = {TRAINING.get(name, name): values for name, values in columns.items() if not name.startswith(OF_SIGNAL)}
    first = [EPISODE, *(name for name in TRAINING.values() if name in team)]
    table = pd.DataFrame(team)[[*first, *sorted(team.keys() - set(first))]]
    table.to_csv(folder / CURVES, index=False, float_format="%.9g")
    of_signals = {_parts(name): values for name, values in columns.items() if name.startswith(OF_SIGNAL)}
    if not of_signals:
        return [folder / CURVES]
    wide = pd.DataFrame(of_signals)
    wide.columns = pd.MultiIndex.from_tuples(of_signals, names=["signal", None])
    wide.index = pd.Index(table[EPISODE], name=EPISODE)
    wide.stack("signal").dropna(how="all").reset_index().to_csv(folder / SIGNALS, index=False, float_format="%.6g")
    return [folder / CURVES, folder / SIGNALS]


def checksum(path: Path) -> str:
    """Return the sha256 of a table."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read(path: Path, expected: str) -> Curves:
    """Return the curves of a table: over episodes, each by its name inside the program.

    Raises:
        UserError: when it is damaged.
    """
    import pandas as pd

    if checksum(path) != expected:
        raise UserError(f"{path.name} differs from its checksum")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table = table.apply(lambda column: column if column.name == "signal" else pd.to_numeric(column, errors="coerce"))
    if path.name == CURVES:
        own = {stored_name: name for name, stored_name in TRAINING.items()}
        return {own.get(str(name), str(name)): _defined(table[EPISODE], table[name]) for name in table.columns}
    metrics = [name for name in table.columns if name not in (EPISODE, "signal")]
    return {
        f"{OF_SIGNAL}{signal}/{metric}": points
        for signal, rows in table.groupby("signal", sort=False)
        for metric in metrics
        if len(points := _defined(rows[EPISODE], rows[metric]))
    }


def over_decisions(tables: Curves) -> Curves:
    """Return curves over decisions, from those of the tables."""
    episodes, decisions = tables["steps"].T
    return {name: _moved(points, episodes, decisions) for name, points in tables.items()}


def _parts(name: str) -> tuple[str, str]:
    """Return signal and metric of a curve."""
    signal, _, metric = name.removeprefix(OF_SIGNAL).rpartition("/")
    return signal, metric


def _defined(steps: Any, values: Any) -> np.ndarray:
    points = np.stack([np.asarray(steps, float), np.asarray(values, float)], 1)
    return points[np.isfinite(points[:, 1])]


def _moved(points: np.ndarray, before: Sequence[float] | np.ndarray, after: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return points at other steps: those of `after` where they had those of `before`."""
    return np.stack([np.round(np.interp(points[:, 0], before, after)), points[:, 1]], 1)
