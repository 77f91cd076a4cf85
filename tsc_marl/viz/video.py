"""A clip as a video, one policy or two side by side; needs no display."""

import logging
from collections.abc import Mapping
from pathlib import Path

from tsc_marl.errors import UserError
from tsc_marl.paths import make_file
from tsc_marl.rollout.types import Policy, Task
from tsc_marl.sim import scenario
from tsc_marl.viz.clip import Clip, record_clip
from tsc_marl.viz.video_canvas import VideoCanvas

log = logging.getLogger(__name__)

FPS, END_S = 10, 4
"""Frames a second, and seconds of the card at the end."""
WRITERS = {".gif": "pillow", ".mp4": "ffmpeg"}


def validate(task: Task, from_s: int, to_s: int, out: Path) -> None:
    """Check the seconds of a clip and its file, before anything runs.

    Raises:
        UserError: when the clip is not in the window, or when the file cannot be written.
    """
    window_s = scenario.load(task.network).duration_s
    if not 0 <= from_s < to_s <= window_s:
        raise UserError(
            f"the clip from-s {from_s} to-s {to_s} must lie in the window of {task.network}, 0 .. {window_s} s, "
            "and end after it starts"
        )
    if out.suffix not in WRITERS:
        raise UserError(f"out {out} must end in {' or '.join(WRITERS)}")
    from matplotlib.animation import writers

    if not writers.is_available(WRITERS[out.suffix]):
        raise UserError(f"out {out} needs ffmpeg, which is not on the PATH; install it, or write a .gif")
    make_file(out)


def write(task: Task, policies: Mapping[str, Policy], seed: int, from_s: int, to_s: int, out: Path) -> None:
    """Play the policies, one after the other, and draw their clips.

    Args:
        task: network and timing.
        policies: by the name over their map, with all their weights.
        seed: SUMO seed, the same for all.
        from_s: first second of the clip, from the start of the window.
        to_s: last second of the clip.
        out: file to write; its suffix is the format.
    """
    clips = {}
    for name, policy in policies.items():
        log.info("%s plays %s, seed %d, to second %d", name, task.network, seed, to_s)
        clips[name] = record_clip(task, policy, seed, from_s, to_s)
    frames = len(next(iter(clips.values())).frames)
    log.info("drawing %d frames", frames)
    draw(out, task, seed, clips)
    log.info("video: %s (%.1f MB, %.0f s)", out, out.stat().st_size / 1e6, frames / FPS + END_S)


def draw(out: Path, task: Task, seed: int, clips: Mapping[str, Clip]) -> None:
    """Draw clips of one length side by side and write the video."""
    from matplotlib.animation import writers

    canvas = VideoCanvas(task, seed, clips)
    writer = writers[WRITERS[out.suffix]](fps=FPS)
    with writer.saving(canvas.figure, str(out), canvas.figure.dpi):
        for i in range(len(next(iter(clips.values())).frames)):
            canvas.show(i)
            writer.grab_frame()
        canvas.show_end()
        for _ in range(END_S * FPS):
            writer.grab_frame()
