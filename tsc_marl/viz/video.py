"""A stretch of an episode as a video, one controller or two side by side; needs no display."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tsc_marl.errors import UserError
from tsc_marl.rollout.types import Policy, Task
from tsc_marl.sim import scenario
from tsc_marl.viz.clip import Clip, record_clip
from tsc_marl.viz.video_canvas import VideoCanvas

FPS = 10
WRITERS = {".gif": "pillow", ".mp4": "ffmpeg"}


def validate(task: Task, from_s: int, to_s: int, out: Path) -> None:
    """Refuse a stretch that is not in the window, and a file that cannot be written, before anything runs.

    Raises:
        UserError: for either.
    """
    window_s = scenario.load(task.network).duration_s
    if not 0 <= from_s < to_s <= window_s:
        raise UserError(
            f"the stretch from-s {from_s} to-s {to_s} must lie in the window of {task.network}, 0 .. {window_s} s, "
            "and end after it starts"
        )
    if out.suffix not in WRITERS:
        raise UserError(f"out {out} must end in {' or '.join(WRITERS)}")
    from matplotlib.animation import writers

    if not writers.is_available(WRITERS[out.suffix]):
        raise UserError(f"out {out} needs ffmpeg, which is not on the PATH; install it, or write a .gif")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.open("ab").close()
    except OSError as error:
        raise UserError(f"out {out} cannot be written ({error.strerror}); give another file") from None


def write(
    task: Task, policies: Mapping[str, Policy], seed: int, from_s: int, to_s: int, out: Path, say: Callable[[str], Any] = print
) -> None:
    """Play the policies, one after the other, and draw the stretch.

    Args:
        task: network, timing.
        policies: by the name over their picture, with all their weights.
        seed: SUMO seed, the same for all.
        from_s: start of the stretch, from the start of the window.
        to_s: its end.
        out: file to write; the suffix says the format.
        say: told what happens, line by line.
    """
    stretches = {}
    for name, policy in policies.items():
        say(f"{name} plays {task.network}, seed {seed}, to second {to_s}")
        stretches[name] = record_clip(task, policy, seed, from_s, to_s)
    frames = len(next(iter(stretches.values())).frames)
    say(f"drawing {frames} frames")
    draw(out, task, seed, stretches)
    say(f"video: {out} ({out.stat().st_size / 1e6:.1f} MB, {frames / FPS:.0f} s)")


def draw(out: Path, task: Task, seed: int, stretches: Mapping[str, Clip]) -> None:
    """Draw stretches of one length side by side and write the video."""
    from matplotlib.animation import writers

    stage = VideoCanvas(task, seed, stretches)
    writer = writers[WRITERS[out.suffix]](fps=FPS)
    with writer.saving(stage.figure, str(out), stage.figure.dpi):
        for i in range(len(next(iter(stretches.values())).frames)):
            stage.show(i)
            writer.grab_frame()
    stage.close()
