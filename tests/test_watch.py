"""sumo-gui driven through TraCI, on a virtual display: the same traffic as through libsumo."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers.fake_policies import TASK, biased

from tsc_marl.errors import UserError
from tsc_marl.rollout.policies import ControllerDriver, ControllerPolicy
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import Job
from tsc_marl.rollout.worker import Worker
from tsc_marl.viz.phase_values import NEUTRAL_COLOUR, PolicyRunner
from tsc_marl.viz.running_figures import Figures, play
from tsc_marl.viz.watch import GREEN, RED, Overlay, value_scale, watch

POLICY, SEED = ControllerPolicy("max_pressure"), 1000


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if shutil.which("Xvfb") is None:
        pytest.skip("needs Xvfb")
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x900x24"], pass_fds=[write], stderr=subprocess.DEVNULL
    )
    number = os.read(read, 16).decode().strip()
    monkeypatch.setenv("DISPLAY", f":{number}")
    yield
    server.terminate()
    server.wait()


def children(name: str) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(os.getpid()), "-x", name], capture_output=True, text=True, check=False)
    return [int(pid) for pid in listed.stdout.split()]


@pytest.mark.parametrize("quit_on_end", [True, False])
def test_the_window_shows_the_same_traffic_as_libsumo_and_closes(display: None, monkeypatch, quit_on_end: bool) -> None:
    monkeypatch.setattr("tsc_marl.viz.watch.RESULT_S", 1)
    policy = biased(1.0)
    shown = watch(TASK, policy, SEED, delay_ms=0, quit_on_end=quit_on_end)
    assert children("sumo-gui") == []
    worker = Worker()
    assert shown == worker.play(Job(0, TASK, policy, SEED)).metrics.values
    worker.close()


class Windows:
    """Drives some decisions in a window; the overlay is updated for the last one."""

    def __init__(self) -> None:
        self.envs, self.overlays = [], []

    def __call__(self, task: Task, policy: ControllerPolicy, decisions: int) -> tuple[PolicyRunner, Any]:
        """Return the runner, and SUMO."""
        scale = value_scale(task, policy, SEED)
        self.envs.append(task.env())
        runner = PolicyRunner(self.envs[-1], policy, SEED, gui=["--start", "--quit-on-end", "--window-size", "1280,900"])
        self.overlays.append(Overlay(self.envs[-1], runner, policy.name, scale))
        for _ in range(decisions):
            chosen = runner.choose()
            self.overlays[-1].update(chosen)
            self.envs[-1].step(chosen)
        return runner, self.envs[-1].engine.api


@pytest.fixture
def window(display: None) -> Iterator[Windows]:
    windows = Windows()
    yield windows
    for env in windows.envs:
        env.close()


def test_the_panel_has_the_figures_of_both_and_the_numbers_of_the_phases(display: None, window: Windows) -> None:
    task = Task("grid2x2")
    beside = play(task, ControllerPolicy("fixed_time"), SEED, lambda: None)
    runner, sumo = window(task, POLICY, 30)
    panel, env = window.overlays[-1].panel, window.envs[-1]
    panel.show_figures(Figures(12.34, 5), beside[29], 150)
    assert sumo.poi.getType("panel policy figures") == "delay 12.3 s, 5 halting"
    assert sumo.poi.getType("panel baseline figures") == str(beside[29])
    assert isinstance(runner.driver, ControllerDriver)
    numbers = runner.driver.controller.phase_numbers
    for i, name in ((0, "A0"), (2, "B0")):
        if i:
            sumo.gui.toggleSelection(name, "polygon")
            chosen = runner.choose()
            window.overlays[-1].update(chosen)
            numbers = runner.driver.controller.phase_numbers
            assert not sumo.gui.isSelected(name, "polygon")
        assert sumo.poi.getType("panel signal").startswith(f"signal {name};")
        assert sumo.poi.getType("panel number") == "pressure of each phase [veh]"
        shown = [sumo.poi.getType(f"panel value {phase}") for phase in range(4)]
        assert shown == [f"{value:.1f}" for value in numbers[i]]
        served = ("N-S straight+(left)+right", "N-S left", "E-W straight+(left)+right", "E-W left")
        names = [sumo.poi.getType(f"panel phase {phase}") for phase in range(4)]
        assert [name.replace("[", "").replace("]", "") for name in names] == [f"{p} {text}" for p, text in enumerate(served)]
        widths = [np.ptp([x for x, _ in sumo.polygon.getShape(f"panel bar {phase}")]) for phase in range(4)]
        assert np.argmax(widths) == np.argmax(np.abs(numbers[i]))
    assert env.now == 150


def test_running_figures_end_at_the_delay_of_the_episode() -> None:
    worker = Worker()
    metrics = worker.play(Job(0, TASK, POLICY, SEED)).metrics
    worker.close()
    figures = play(TASK, POLICY, SEED, lambda: None)
    assert figures[-1].delay_s == pytest.approx(metrics["delay"], rel=0.02)
    assert max(of.halting for of in figures) >= metrics["queue_max"]


def test_the_signal_of_the_panel_must_be_there() -> None:
    with pytest.raises(UserError, match="signal A7 not found"):
        watch(TASK, POLICY, SEED, delay_ms=0, signal="A7")


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_colour_at_a_signal_has_the_sign_of_its_advantage(window: Windows, sign: float) -> None:
    runner, sumo = window(TASK, biased(sign), 4)
    assert runner.values.tolist() == [pytest.approx(sign)]
    red, green, blue, _ = sumo.polygon.getColor("A0")
    assert (blue > green > 0 and blue > red) if sign > 0 else (red > green > blue)  # purple, orange
    assert sumo.poi.getType("A0") == f"0: {sign:+.1f}"
    assert [sumo.poi.getType(f"legend {share}") for share in (-1.0, 0.0, 1.0)] == ["-1.0", "+0.0", "+1.0"]
    boundary = sumo.gui.getBoundary()
    for name in sumo.poi.getIDList():
        assert all(low < x < high for low, x, high in zip(boundary[0], sumo.poi.getPosition(name), boundary[1], strict=True)), (
            name
        )


def test_before_a_choice_there_is_no_colour(window: Windows) -> None:
    _, sumo = window(TASK, biased(1.0), 1)  # which the minimum green decides
    assert sumo.polygon.getColor("A0")[:3] == NEUTRAL_COLOUR


def test_a_controller_has_phases_but_no_colour(window: Windows) -> None:
    runner, sumo = window(TASK, ControllerPolicy("fixed_time"), 3)
    assert runner.legend is None
    assert sumo.polygon.getColor("A0")[:3] == NEUTRAL_COLOUR
    assert "legend low" not in sumo.poi.getIDList()
    state = sumo.trafficlight.getRedYellowGreenState("A0")
    lines = [name for name in sumo.polygon.getIDList() if name.startswith("A0 ") and name != "A0 rim"]
    drawn = [name for name in lines if sumo.polygon.getColor(name) == GREEN]
    links = sumo.trafficlight.getControlledLinks("A0")
    green = {
        (one[0].rpartition("_")[0], one[1].rpartition("_")[0]) for (one, *_), c in zip(links, state, strict=True) if c in "Gg"
    }
    assert sorted(drawn) == sorted(f"A0 {a} {b}" for a, b in green)
    every = {(one[0].rpartition("_")[0], one[1].rpartition("_")[0]) for (one, *_) in links}
    assert {name for name in lines if sumo.polygon.getColor(name) == RED} == {f"A0 {a} {b}" for a, b in every - green}
    assert sumo.poi.getType("A0") == "0"


def test_a_closed_window_ends_it_in_one_line(display: None) -> None:
    def close() -> None:
        while not (windows := children("sumo-gui")):
            time.sleep(0.2)
        time.sleep(5)
        os.kill(windows[0], signal.SIGKILL)

    thread = threading.Thread(target=close)
    thread.start()
    assert watch(TASK, POLICY, SEED, delay_ms=200) is None
    thread.join()


@pytest.mark.parametrize(("display", "expected"), [(None, "DISPLAY is not set"), (":93", ":93")])
def test_no_display(display: str | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)
    with pytest.raises(UserError, match=expected):
        watch(TASK, POLICY, SEED, delay_ms=0)
