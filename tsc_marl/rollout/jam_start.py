"""Training episodes that start from a jam, so that a policy learns the way out."""

from dataclasses import dataclass, replace

from tsc_marl.bounds import Count, Share
from tsc_marl.rollout.task import Task
from tsc_marl.sim import seeds


@dataclass(frozen=True)
class JamStart:
    """Training episodes that start from a jam, drawn from each episode's seed; by default none.

    Before the first decision, every signal holds one phase. Nothing is learned from that time, and the window ends as much later.
    The first episode of each update starts on empty roads: the curves of delay and reward are those of such episodes alone.
    """

    share: Share = 0.0
    """Share of the other episodes that start from a jam."""
    longest_s: Count = 600
    """Longest time for which the signals hold a phase [s]; the times are uniform."""

    def apply(self, task: Task, seed: int) -> Task:
        """Return the task of the episode with a SUMO seed."""
        drawn, length = seeds.stream(seed, seeds.JAM_START).random(2)
        if drawn >= self.share:
            return task
        return replace(task, disturbance=replace(task.disturbance, jam_s=1 + int(length * self.longest_s)))
