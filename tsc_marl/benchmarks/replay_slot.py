"""A slot that replays a recorded job: it waits as long as the real one took, so that many of them fit on a few cores."""

import time
from pathlib import Path
from typing import Any


class ReplaySlot:
    """What `rollout.cluster.slot.Slot` is to the head, without SUMO and torch.

    Args:
        _fetch: not used. To unpickle a policy every process would need torch; the object is on this machine anyway.
        versions: of the head.
        answer: file of the pickled answer to every job.
        took_s: how long the job took [s].
    """

    def __init__(self, _fetch: Any, versions: dict[str, str], answer: Path, took_s: float) -> None:
        self._versions, self._answer, self._took_s = versions, answer, took_s

    def versions(self) -> dict[str, str]:
        """Return those of the head."""
        return self._versions

    def play(self, *_parts: Any) -> bytes:
        """Return the answer after the time that it took."""
        time.sleep(self._took_s)
        return self._answer.read_bytes()

    def close(self) -> None:
        """Do nothing: there is nothing to remove."""
