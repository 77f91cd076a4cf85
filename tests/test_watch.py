"""sumo-gui driven through TraCI, on a virtual display: the same traffic as through libsumo."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tsc_marl.errors import UserError
from tsc_marl.rollout.worker import Job, Policy, Task, Worker
from tsc_marl.watch import watch

TASK, POLICY, SEED = Task("cross"), Policy("max_pressure"), 1000


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


def test_the_window_shows_the_same_traffic_as_libsumo(display: None) -> None:
    said: list[str] = []
    shown = watch(TASK, POLICY, SEED, delay_ms=0, quit_on_end=True, say=said.append)
    worker = Worker()
    assert shown == worker.play(Job(0, TASK, POLICY, SEED)).figures
    worker.close()
    assert "close its window to stop" in said[0]
    assert said[-1].startswith("delay ")


def test_a_closed_window_ends_it_in_one_line(display: None) -> None:
    def close() -> None:
        while not (windows := children("sumo-gui")):
            time.sleep(0.2)
        time.sleep(5)
        os.kill(windows[0], signal.SIGKILL)

    said: list[str] = []
    thread = threading.Thread(target=close)
    thread.start()
    assert watch(TASK, POLICY, SEED, delay_ms=200, say=said.append) is None
    thread.join()
    assert "window was closed" in said[-1]


@pytest.mark.parametrize(("display", "expected"), [(None, "DISPLAY is not set"), (":93", ":93")])
def test_no_display(display: str | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)
    with pytest.raises(UserError, match=expected):
        watch(TASK, POLICY, SEED, delay_ms=0)
