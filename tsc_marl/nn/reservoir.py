"""Reservoir: rows of batches of the whole training, each batch as likely to be kept."""

from typing import Any

import torch

from tsc_marl.nn.effects import EffectRows


class Reservoir:
    """A uniform sample of the batches so far (algorithm R of Vitter 1985), and of each of them some rows.

    All draws are from torch's global generator.

    Args:
        batches: most batches that are kept.
        agent_rows: most rows of a batch that are kept, times the number of agents; at least one row is.
    """

    def __init__(self, batches: int, agent_rows: int) -> None:
        self._batches, self._agent_rows = batches, agent_rows
        self._seen = 0
        self._kept: list[EffectRows] = []

    def add(self, rows: EffectRows) -> None:
        """Take in a new batch [L, M, ...], which may replace another."""
        self._seen += 1
        place = len(self._kept) if len(self._kept) < self._batches else int(torch.randint(self._seen, ()))
        if place >= self._batches:
            return
        length, count, n_agents = rows.action.shape
        chosen = torch.randperm(count)[: max(self._agent_rows // (length * n_agents), 1)]
        self._kept[place : place + 1] = [rows.map(lambda x: x[:, chosen])]

    def draw(self, count: int) -> EffectRows:
        """Return that many rows of one batch, or all that are kept of it.

        Raises:
            IndexError: before any batch was kept.
        """
        rows = self._kept[int(torch.randint(max(len(self._kept), 1), ()))]
        chosen = torch.randperm(rows.action.shape[1])[:count]
        return rows.map(lambda x: x[:, chosen])

    def state(self) -> dict[str, Any]:
        """Return the rows, for the checkpoint of a resumed training; later calls do not change these tensors."""
        return {"seen": self._seen, "kept": [vars(rows) for rows in self._kept]}

    def load(self, state: dict[str, Any] | None) -> None:
        """Load the result of `state`."""
        self._seen, self._kept = (0, []) if state is None else (state["seen"], [EffectRows(**rows) for rows in state["kept"]])
