"""A video of traffic: real GIF files from real SUMO runs, and every mistake in one line."""

# pyright: reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
# The canvas of matplotlib and the images of Pillow have attributes that their types lack.

import itertools

import numpy as np
import pytest
from helpers.cli import one_line
from helpers.fake_policies import TASK, biased
from matplotlib.collections import PathCollection
from PIL import Image

from tsc_marl.cli.main import main
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.rollout.task import Task
from tsc_marl.viz.clip import MOST_FRAMES, Clip, record_clip
from tsc_marl.viz.video_canvas import VideoCanvas, vehicle_colours

GRID = Task("grid2x2")


@pytest.fixture(scope="module")
def clip() -> Clip:
    return record_clip(GRID, ControllerPolicy("max_pressure"), 1000, 290, 300)


def test_a_gif_of_two_controllers_side_by_side(tmp_path) -> None:
    out = tmp_path / "new" / "both.gif"
    line = f"video --net cross --policy max_pressure fixed_time --from-s 100 --to-s 106 --out {out}"
    assert main(line.split()) == 0
    with Image.open(out) as image:
        assert (image.format, image.n_frames, image.size[0] % 2) == ("GIF", 6 + 1, 0)  # the card at the end is one frame
        image.seek(6)
        assert image.info["duration"] == 4000
        frames = []
        for i in range(6):
            image.seek(i)
            frames.append(np.asarray(image.convert("RGB")).astype(int))
    middle = frames[0].shape[1] // 2
    for half in (np.s_[100:, :middle], np.s_[100:, middle:]):
        moved = [np.abs(a[half] - b[half]).max(axis=-1) > 50 for a, b in itertools.pairwise(frames)]
        assert all(pixels.sum() > 20 for pixels in moved)


def test_a_clip_records_the_same_episode_as_the_evaluation(clip) -> None:
    env = GRID.env()
    act, lost_s = ControllerPolicy("max_pressure").start(env, 1000).act, 0.0
    while env.now < 295:
        lost_s -= float(env.step(act())[0].sum())
    last = clip.frames[5]
    assert [frame.second for frame in clip.frames] == list(range(290, 300))
    assert len(env.vehicles.ids) > 10
    np.testing.assert_allclose(np.sort(last.vehicles[:, 3]), np.sort(env.vehicles.speed_ms), atol=0.006)
    positions = np.array([env.engine.api.vehicle.getPosition(name) for name in env.vehicles.ids])
    np.testing.assert_allclose(np.sort(last.vehicles[:, 0]), np.sort(positions[:, 0]), atol=0.006)
    assert list(clip.frames[4].states) == env.engine.states(env.names)  # in the second before
    assert last.waiting == len(env.engine.api.simulation.getPendingVehicles())
    assert last.lost_s == pytest.approx(lost_s)
    assert clip.lost_s[-2].tolist() == [295, pytest.approx(lost_s)]
    env.close()


def test_a_vehicle_is_drawn_where_it_is(clip) -> None:
    canvas = VideoCanvas(GRID, 1000, {"max_pressure": clip})
    map_ = canvas.figure.axes[0]
    for i in (0, 9):
        canvas.show(i)
        canvas.figure.canvas.draw()
        pixels = np.asarray(canvas.figure.canvas.buffer_rgba())[..., :3].astype(int)
        visible = 0
        for x, y, angle, speed in clip.frames[i].vehicles:
            centre = (x - 2.5 * np.sin(np.radians(angle)), y - 2.5 * np.cos(np.radians(angle)))
            column, row = map_.transData.transform(centre)
            pixel = pixels[len(pixels) - 1 - int(row), int(column)]
            visible += np.abs(pixel - 255 * vehicle_colours(np.array([speed]))[0]).max() < 40
        assert visible >= 0.8 * len(clip.frames[i].vehicles)  # some overlap


def test_the_discs_have_the_colour_of_the_advantage() -> None:
    for sign in (1.0, -1.0):
        recorded = record_clip(TASK, biased(sign), 1000, 20, 22)
        assert [frame.values.tolist() for frame in recorded.frames] == [[pytest.approx(sign)]] * 2
        canvas = VideoCanvas(TASK, 1000, {"jointq": recorded})
        canvas.show(1)
        (discs,) = (artist for artist in canvas.figure.axes[0].collections if isinstance(artist, PathCollection))
        colour = discs.get_facecolor()[0]
        assert (colour[2] > colour[0]) == (sign > 0)


def test_the_end_card_shows_both_delays_and_the_time_lost(clip) -> None:
    canvas = VideoCanvas(GRID, 1000, {"pressed": clip, "again": clip})
    canvas.show_end()
    curves = canvas.figure.axes[-1].lines
    assert [curve.get_ydata()[-1] for curve in curves] == [clip.lost_s[-1, 1] / 3600] * 2
    assert clip.lost_s[-1].tolist() == [300, pytest.approx(clip.frames[-1].lost_s, rel=0.1)]
    texts = [text.get_text() for text in canvas.figure.texts]
    assert any(f"pressed: delay {clip.delay_s:.1f} s" in text and f"again: delay {clip.delay_s:.1f} s" in text for text in texts)
    assert "mean delay per vehicle to 05:00" in texts


def test_an_empty_start_has_no_vehicles() -> None:
    frames = record_clip(TASK, ControllerPolicy("fixed_time"), 1000, 0, 3).frames
    assert [len(frame.vehicles) > 0 for frame in frames] == [False, True, True]


def test_a_long_clip_has_a_bounded_number_of_frames() -> None:
    frames = record_clip(TASK, ControllerPolicy("fixed_time"), 1000, 0, 600).frames
    assert len(frames) == 200 <= MOST_FRAMES
    assert [frame.second for frame in frames[:3]] == [0, 3, 6]
    assert frames[0].vehicles.shape[1] == 4


MISTAKES = [
    ("--from-s 500 --to-s 700", "from-s 500 to-s 700 must lie in the window of cross, 0 .. 600 s"),
    ("--from-s -5 --to-s 50", "from-s -5 to-s 50 must lie in the window of cross"),
    ("--from-s 50 --to-s 50", "and end after it starts"),
    ("--from-s 60 --to-s 50", "and end after it starts"),
    ("--policy random fixed_time max_wave", "policy takes one or two, side by side; got random fixed_time max_wave"),
    ("--policy random random", "policy needs at least one entry and none twice"),
    ("--policy max_presure", "controller max_presure not found; did you mean max_pressure?"),
    ("--out /dev/null/x.gif", "out /dev/null/x.gif cannot be written"),
    ("--out {tmp}", "must end in .gif or .mp4"),
    ("--out {tmp}/x.avi", "must end in .gif or .mp4"),
    ("--out {tmp}/x.mp4", "needs ffmpeg, which is not on the PATH; install it, or write a .gif"),
    ("--seed -1", "seed must lie in 0 .. 2147483647; got -1"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys, line, message) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    defaults = {"--policy": "random", "--from-s": "10", "--to-s": "20", "--out": f"{tmp_path}/x.gif"}
    options = [f"{name} {value}" for name, value in defaults.items() if name not in line]
    assert main(f"video --net cross {' '.join(options)} {line.format(tmp=tmp_path)}".split()) == 2
    assert message in one_line(capsys.readouterr().err)
