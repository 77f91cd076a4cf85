"""A slot that plays recorded rollouts: it waits as long as the real one took, so that many of them fit on a few cores."""

import time
from collections.abc import Callable
from typing import Any


class ReplaySlot:
    """What `rollout.cluster.slot.Slot` is to the head, without SUMO and torch.

    Args:
        fetch: returns what a reference stands for.
        versions: of the head.
        recorded: by the number of the rollout in its episode, the pickled answer and how long it took [s].
    """

    def __init__(self, fetch: Callable[[Any], Any], versions: dict[str, str], recorded: list[tuple[bytes, float]]) -> None:
        self._fetch, self._versions, self._recorded = fetch, versions, recorded

    def versions(self) -> dict[str, str]:
        """Return those of the head."""
        return self._versions

    def play(self, _message: bytes, policies: tuple[Any, ...], _others: Any) -> bytes:
        """Return the answer to a job after the time that it took; the policy comes over as to a slot that simulates."""
        begun = time.perf_counter()
        self._fetch(policies[-1])
        answer, took_s = self._recorded[len(policies) - 1]
        time.sleep(max(0.0, took_s - (time.perf_counter() - begun)))
        return answer

    def close(self) -> None:
        """Do nothing: there is nothing to remove."""
