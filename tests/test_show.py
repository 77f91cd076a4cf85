"""The page that plays an episode: what it records is what happened, and a browser shows it."""

import gzip
import itertools
import re
from base64 import b64decode
from contextlib import closing, contextmanager
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers.cli import one_line
from helpers.fake_policies import TASK, biased
from hypothesis import given
from hypothesis import strategies as st

from tsc_marl.cli.main import main
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.rollout.task import Task
from tsc_marl.sim import network_file, road_network
from tsc_marl.sim.metrics import Trips
from tsc_marl.viz import approach_delay, vehicle_paths
from tsc_marl.viz.show.columns import packed
from tsc_marl.viz.show.recording import record
from tsc_marl.viz.vehicle_paths import VehiclePaths

pytest_plugins = ["helpers.browser"]

SEED, TO_S = 1000, 150
GRID = Task("grid2x2")
NET = road_network.of(GRID.scenario)


def recorded(task, policy, to_s=TO_S):
    approaches = approach_delay.approaches(task.scenario, road_network.of(task.scenario))
    return record(task, policy, SEED, to_s, approaches, lambda: None)


@pytest.fixture(scope="module")
def pressed():
    return recorded(GRID, ControllerPolicy("max_pressure"))


@pytest.fixture(scope="module")
def fixed():
    return recorded(GRID, ControllerPolicy("fixed_time"))


@contextmanager
def played(name, to_s):
    """The same episode, step by step without a recording."""
    with closing(GRID.env()) as env:
        driver = ControllerPolicy(name).start(env, SEED)
        while env.now < to_s:
            env.step(driver.act())
        yield env


# what is recorded


def state_at(light, second):
    """What a signal shows in the second that begins then."""
    return light.states[light.shown[np.searchsorted(light.second, second, "right") - 1]]


@pytest.mark.parametrize("second", [5, 95, 145])
def test_vehicles_and_lights_are_those_of_the_episode(pressed, second):
    paths = pressed.paths
    here = paths.second == second
    shown = sorted(zip(np.array(paths.ids)[paths.vehicle[here]], paths.lane[here], paths.pos_m[here], strict=True))
    states = [state_at(light, second - 1) for light in pressed.lights]
    with played("max_pressure", second) as env:
        vehicles = env.vehicles
        assert states == env.engine.states(env.names)
        assert pressed.waiting[second // 5 - 1] == len(env.engine.api.simulation.getPendingVehicles())
    expected = sorted(zip(vehicles.ids, vehicles.lane, vehicles.pos_m, strict=True))
    assert [row[:2] for row in shown] == [row[:2] for row in expected] != []
    assert [row[2] for row in shown] == pytest.approx([row[2] for row in expected], abs=0.006)


def test_the_delay_so_far_ends_at_the_delay_of_the_episode(pressed, fixed):
    for recording in (pressed, fixed):
        mean = recording.lost_s[-1] / recording.scheduled[-1]
        assert recording.scheduled[-1] == recording.metrics["scheduled"]
        assert mean == pytest.approx(recording.metrics["delay"], rel=0.03)
        assert (np.diff(recording.lost_s) >= -0.1).all()


def test_a_controller_shows_the_number_that_it_decides_by(pressed):
    choice = pressed.legal.sum(-1) > 1
    number = np.where(pressed.legal, pressed.numbers["decides"], -np.inf)
    chosen = np.take_along_axis(number, pressed.phase[:, :, None], 2)[:, :, 0]
    assert pressed.rule.numbers[0].title == "pressure"
    assert choice.sum() > 20
    assert (chosen == number.max(-1))[choice].mean() > 0.9  # the others are links that were red for too long
    assert len(np.unique(number[choice])) > 20


@pytest.mark.parametrize("name", ["longest_queue", "max_wave", "max_pressure_lane", "sotl"])
def test_other_controllers_too(name):
    recording = recorded(GRID, ControllerPolicy(name), 40)
    assert recording.rule.numbers[0].unit in ("veh", "veh·s")
    assert recording.numbers["decides"].any()


def test_a_program_shows_its_greens_and_its_phase(fixed):
    tree = ElementTree.parse(GRID.scenario.net).getroot()
    for i, signal in enumerate(NET.signals):
        steps = tree.find(f"tlLogic[@id='{signal.name}']").findall("phase")
        planned = {step.get("state"): float(step.get("duration")) for step in steps}
        assert fixed.numbers["decides"][0, i, : len(signal.phases)].tolist() == [planned[phase] for phase in signal.phases]
        assert (np.diff(fixed.phase[:, i]) != 0).sum() >= 2
        light = fixed.lights[i]
        for second, phase in zip(fixed.second, fixed.phase[:, i], strict=True):
            state = state_at(light, second)
            assert state == signal.phases[phase] or "y" in state


def test_a_critic_shows_its_effects():
    recording = recorded(TASK, biased(3.0), 30)
    assert [number.key for number in recording.rule.numbers] == ["decides", "own", "others"]
    own = recording.numbers["own"]
    assert own[:, 0, 0] - own[:, 0, 1] == pytest.approx(np.full(len(own), 3.0), abs=1e-4)
    assert recording.numbers["decides"][:, 0].sum(-1) == pytest.approx(np.ones(len(own)), abs=1e-4)


# level of service, by hand


def test_time_is_lost_for_the_stop_line_that_is_passed_next():
    """One vehicle waits 2 s to enter, stands 3 s before A and passes; another stands there to the end."""
    of = approach_delay.approaches(GRID.scenario, NET)
    lane = next(i for i, k in enumerate(of.of_lane) if k >= 0)
    exits = int(np.flatnonzero(of.of_lane < 0)[0])
    paths = VehiclePaths(
        ["a", "b"], np.array([4, 6]), np.array([5, 6]), np.array([4, 5, 6, 7, 8, 6, 7, 8, 9, 10, 11]),
        np.array([lane, lane, lane, lane, exits, *[lane] * 6]), np.zeros(11),
        np.array([0.0, 1.0, 1.0, 1.0, 0.5, *[1.0] * 6]), 1,
    )  # fmt: skip
    trips = Trips(
        ["a", "b"],
        ["", ""],
        np.array([2.0, 0.0]),
        *np.zeros((4, 2)),
        np.array([4.0, 6.0]),
        np.array([9.0, -1.0]),
        *np.zeros((2, 2), bool),
        np.ones(2),
    )
    result = approach_delay.flows(paths, trips, {}, of, NET, np.array([0, 5, 10]))
    k = of.of_lane[lane]
    assert result.passed[:, k].tolist() == [0, 1, 0]
    assert result.lost_s[:, k].tolist() == [3.0, 7.0, 1.0]
    assert result.lost_s.sum() == 11.0


def test_a_long_recording_has_fewer_places(tmp_path, monkeypatch):
    names = sorted(NET.lane_index)[-1]
    rows = [f"{t};{v};{10 if v == 'x' else 0};{t + 1};{names}" for t in range(10) for v in ("x", "y")]
    (tmp_path / "paths.csv").write_text("\n".join([";".join(vehicle_paths.COLUMNS), *rows]))
    monkeypatch.setattr(vehicle_paths, "MOST_SAMPLES", 10)
    paths = vehicle_paths.read(tmp_path / "paths.csv", NET, 0)
    assert (paths.step_s, paths.ids, paths.count.tolist()) == (2, ["x", "y"], [5, 5])
    assert paths.second.tolist() == [2, 4, 6, 8, 10] * 2
    assert paths.lost_s[5:].tolist() == [2, 2, 2, 2, 2]


# the file


def unpacked(data, size, order):
    """A plain reading of what columns.py describes."""
    values, at = [], 0
    for _ in range(size):
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        values.append(-(value + 1) // 2 if value % 2 else value // 2)
    for _ in range(order):
        values = list(itertools.accumulate(values))
    assert at == len(data)
    return values


@given(st.lists(st.integers(-(2**29), 2**29)), st.integers(0, 2))
def test_columns_are_read_back(values, order):
    (head,), data = packed({"x": (np.array(values, dtype=int), order)})
    assert unpacked(data, head["size"], head["order"]) == values


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    out = tmp_path_factory.mktemp("show") / "new" / "both.html"
    line = f"show --network grid2x2 --policy max_pressure fixed_time --seed {SEED} --to-s {TO_S} --out {out}"
    assert main(line.split()) == 0
    return out


def test_the_file_is_small_and_needs_no_other(file):
    text = file.read_text(encoding="utf-8")
    assert file.stat().st_size < 300_000
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert "fetch(" not in text
    assert "max_pressure" in gzip.decompress(b64decode(re.search(r'id="episode">([^<]+)<', text)[1])).decode(errors="replace")


MISTAKES = [
    ("--to-s 700", "to-s 700 must lie in the window of cross, 1 .. 600 s"),
    ("--to-s 0", "to-s 0 must lie in the window of cross, 1 .. 600 s"),
    ("--policy random fixed_time max_wave", "policy takes one or two, side by side; got random fixed_time max_wave"),
    ("--policy max_presure", "controller max_presure not found; did you mean max_pressure?"),
    ("--out /dev/null/x.html", "out /dev/null/x.html cannot be written"),
    ("--out {tmp}/x.gif", "out must name an .html file; got"),
    ("--seed -1", "seed must lie in 0 .. 2147483647; got -1"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_a_mistake_is_one_line(tmp_path, capsys, line, message):
    defaults = {"--policy": "random", "--out": f"{tmp_path}/x.html"}
    options = [f"{name} {value}" for name, value in defaults.items() if name not in line]
    assert main(f"show --network cross {' '.join(options)} {line.format(tmp=tmp_path)}".split()) == 2
    assert message in one_line(capsys.readouterr().err)


# in a browser

PIXELS = (
    "canvas => new Set(new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"
)
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def opened(page, file):
    page.goto(file.as_uri())
    page.locator("html[data-ready]").wait_for(state="attached")
    return page


def click_signal(page, name):
    """Click where a signal is drawn on the first map, which shows the whole network."""
    lanes = [lane for edge in network_file.read(GRID.scenario.net)[0].getEdges() for lane in edge.getLanes()]
    points = np.array([point[:2] for lane in lanes for point in lane.getShape()])
    low, high = points.min(0), points.max(0)
    signal = next(signal for signal in NET.signals if signal.name == name)
    canvas = page.locator(".map canvas").first
    size = np.array([canvas.bounding_box()[side] for side in ("width", "height")])
    away = ((signal.x, signal.y) - (low + high) / 2) * ((size - 24) / (high - low)).min()
    canvas.click(position={"x": size[0] / 2 + away[0], "y": size[1] / 2 - away[1]})


def test_the_page_draws_and_answers(file, new_page, pressed, fixed):
    page = opened(new_page(), file)
    assert all(canvas.evaluate(PIXELS) > 5 for canvas in page.locator(".map canvas").all())
    assert page.locator("#delay").evaluate(PIXELS) > 5
    page.locator("#time").focus()
    page.keyboard.press("Home")
    for _ in range(19):
        page.keyboard.press("ArrowRight")
    page.get_by_text("01:35").wait_for()
    for shown, name, recording in zip(page.locator(".now").all(), ("max_pressure", "fixed_time"), (pressed, fixed), strict=True):
        with played(name, 95) as env:
            speed_ms = env.vehicles.speed_ms
        numbers = [int(number) for number in re.findall(r"\d+", shown.inner_text())]
        assert abs(numbers[0] - (speed_ms < 0.1).sum()) <= 1
        assert numbers[0] + numbers[1] == len(speed_ms)
        delay = recording.lost_s[18] / recording.scheduled[18]
        assert f"{name} {delay:.1f}" in page.locator("#delays").inner_text()
    assert page.wrong == []
    assert page.asked == [file.as_uri()]


def test_a_click_explains_a_signal_and_a_scrub_changes_it(file, new_page, pressed):
    page = opened(new_page(), file)
    signal = NET.signals[1]
    click_signal(page, signal.name)
    panel = page.locator("#panel")
    panel.get_by_role("heading", name=f"Signal {signal.name}").wait_for()
    assert panel.locator(".phases").count() == 2
    cards = panel.locator(".phases").first.locator(".phase")
    assert cards.count() == len(signal.phases)
    reasons = set()
    for t in np.flatnonzero(pressed.legal[:, 1].sum(-1) > 1)[:8].tolist():
        page.locator("#time").fill(str(int(pressed.second[t])))
        page.wait_for_function(
            "text => document.getElementById('clock').textContent === text", arg=f"{t // 12:02d}:{5 * t % 60:02d}"
        )
        chosen = int(pressed.phase[t, 1])
        assert "chosen" in cards.nth(chosen).get_attribute("class")
        assert f"{pressed.numbers['decides'][t, 1, chosen]:.1f}".removesuffix(".0") in cards.nth(chosen).inner_text()
        reasons.add(panel.locator(".why").first.inner_text())
    assert len(reasons) > 1
    assert any("largest pressure" in reason for reason in reasons)
    assert "N-S left" in cards.nth(1).inner_text()
    assert all("(N-S " in reason or "(E-W " in reason for reason in reasons)
    assert "signal program decides" in panel.locator(".why").last.inner_text()
    assert panel.locator(".service").count() > 0
    page.keyboard.press("Escape")
    panel.get_by_role("heading", name="A signal's decision").wait_for()
    assert page.wrong == []


def test_it_plays_and_stops(file, new_page):
    page = opened(new_page(), file)
    before = page.locator(".map canvas").first.evaluate("canvas => canvas.toDataURL()")
    clock = page.locator("#clock").inner_text()
    page.keyboard.press("Space")
    page.wait_for_function("text => document.getElementById('clock').textContent !== text", arg=clock)
    page.keyboard.press("Space")
    assert page.get_by_role("button", name="Play").count() == 1
    assert page.locator(".map canvas").first.evaluate("canvas => canvas.toDataURL()") != before


def test_a_corridor_is_clicked_together(file, new_page):
    page = opened(new_page(), file)
    page.get_by_role("button", name="corridor", exact=True).click()
    first, second = (signal.name for signal in NET.signals[:2])
    click_signal(page, first)
    click_signal(page, second)
    page.get_by_text(f"{first} → {second}").wait_for()
    diagrams = page.locator("#diagram canvas")
    page.wait_for_function(f"() => ({PIXELS})(document.querySelector('#diagram canvas')) > 5")
    assert diagrams.count() == 2
    assert page.wrong == []


def test_a_phone_in_the_dark_without_motion(file, new_page):
    page = opened(new_page(390, 844, color_scheme="dark", reduced_motion="reduce"), file)
    page.locator("#signal").select_option(label=NET.signals[0].name)
    page.locator(".phase").first.wait_for()
    assert page.evaluate(WIDER) <= 0
    light = opened(new_page(390, 844), file)
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) != light.evaluate(paper)
    page.locator("#play").click()
    seconds = set()
    for _ in range(20):
        seconds.add(page.locator("#clock").inner_text())
        page.wait_for_timeout(50)
    page.locator("#play").click()
    assert len(seconds) > 1
    assert all(int(text[-2:]) % 5 == 0 for text in seconds)


def test_the_text_is_there_before_any_script(file, new_page):
    page = new_page(java_script_enabled=False)
    page.goto(file.as_uri())
    page.get_by_role("heading", name="grid2x2 under max_pressure and fixed_time").wait_for()
    page.locator("noscript p").wait_for()
    assert page.locator(".results td").count() == 10
