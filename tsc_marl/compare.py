"""Finished trainings side by side, read from MLflow."""

from rich.table import Table

from tsc_marl.errors import UserError
from tsc_marl.track import Tracker


def table(network: str) -> Table:
    """Return the finished trainings of a network, best final delay first.

    Raises:
        UserError: when there is none.
    """
    runs = [run for run in Tracker(network).finished() if "eval/delay" in run.data.metrics]
    if not runs:
        raise UserError(f"no finished run on {network}; train one: make train NET={network}")
    result = Table(title=f"{network}: final greedy policies on held-out seeds", title_justify="left")
    for column in ("algorithm", "seed", "timing"):
        result.add_column(column, no_wrap=True)
    for column in ("delay [s]", "median", "travel [s]", "never ins.", "episodes", "minutes"):
        result.add_column(column, justify="right", no_wrap=True)
    for column in ("commit", "run"):
        result.add_column(column, no_wrap=True)
    for run in sorted(runs, key=lambda run: run.data.metrics["eval/delay"]):
        m, tags = run.data.metrics, run.data.tags
        result.add_row(
            tags["algorithm"], tags["seed"], tags["timing"], f"{m['eval/delay']:.1f}", f"{m['eval/median_delay']:.1f}",
            f"{m['eval/travel_time']:.1f}", f"{m['eval/never_inserted']:.1f}", f"{m['episode']:.0f}", f"{m['minutes']:.1f}",
            tags["git_commit"][:8], run.info.run_id,
        )  # fmt: skip
    return result
