"""Locks: gridlocks made on small networks, and what is said of them."""

import csv
import dataclasses

import numpy as np
import pytest
from helpers.cli import one_line

from tsc_marl.analysis import locks as report
from tsc_marl.cli.main import main
from tsc_marl.errors import UserError
from tsc_marl.sim import fingerprint, scenario
from tsc_marl.sim.blockers import circles
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.locks import CIRCLE, NO_GAP, STARVED, STOP, LockTracker
from tsc_marl.sim.scenario import PATIENCE

SEED = 1
LAP = [f"{edge}{part}" for edge in ("A0B0", "B0B1", "B1A1", "A1A0") for part in ("", ".110.00")]
"""The edges round the block of grid2x2, each with its turn pocket."""


def scene(folder, network, routes, end_s, **fields):
    path = folder / "own.rou.xml"
    path.write_text(f"<routes>{routes}</routes>", encoding="utf-8")
    return dataclasses.replace(scenario.load(network), routes=(path,), end_s=end_s, **fields)


def ring(folder, end_s=260):
    """Grid2x2 with its block filled by vehicles that drive round it for ever."""
    starts = [(i, " ".join((LAP[2 * i :] + LAP[: 2 * i]) * 9)) for i in range(4)]
    routes = [f'<route id="r{i}" edges="{edges}"/>' for i, edges in starts]
    flow = 'begin="0" end="100" period="2" departPos="random_free"'
    return scene(folder, "grid2x2", "".join([*routes, *(f'<flow id="f{i}" route="r{i}" {flow}/>' for i in range(4))]), end_s)


def watch(given, phase, after_s):
    """Play an episode in which the signals are asked for a phase by the time; return its locks."""
    env, ended = TrafficEnv(given), False
    try:
        env.reset(SEED)
        tracker = LockTracker(env, after_s)
        while not ended:
            _, ended = env.step(np.full(len(env.names), phase(env.now)))
            tracker.update()
        return tracker.locks
    finally:
        env.close()


def alternating(now_s):
    return int(now_s // 30 % 2 * 2)


def test_vehicles_that_fill_a_block_wait_for_each_other(tmp_path):
    (lock,) = watch(ring(tmp_path), alternating, 120)
    assert (lock.cause, lock.until_s) == (CIRCLE, None)
    assert lock.held_at_end == len(lock.vehicles) == len(lock.first) > 50
    chain = report.ordered(lock)
    assert all(other.name in vehicle.hold.blockers for vehicle, other in zip(chain, [*chain[1:], chain[0]], strict=True))
    assert lock.since_s <= lock.seen_s - 60
    assert "vehicles block each other" in report.sentence(SEED, lock)


NORTH, EAST = 'from="bottom0A0" to="A0top0"', 'from="left0A0" to="A0right0"'


def test_a_movement_without_green_is_starved(tmp_path):
    """Phase 0 of cross serves the roads from the top and the bottom."""
    routes = f'<flow id="n" begin="0" end="200" period="9" {NORTH}/><flow id="e" begin="0" end="200" period="9" {EAST}/>'
    locks = watch(scene(tmp_path, "cross", routes, 200), lambda now_s: 0, 120)
    env = TrafficEnv(scenario.load("cross"))
    (signal,) = env.net.signals
    lanes = {link.link: link.in_lane for link in signal.links}
    assert locks
    for lock in locks:
        assert (lock.cause, lock.signal, lock.green_s, list(lock.shown_s)) == (STARVED, signal.name, 0.0, [0])
        assert lock.vehicles[lock.first[0]].lane == lanes[lock.link]
        assert all(vehicle.lane.startswith("left0A0") for vehicle in lock.vehicles.values())
        assert "has no green (phases shown: 0 for" in report.sentence(SEED, lock)


def test_a_lock_ends_when_its_vehicles_move_on(tmp_path):
    routes = f'<flow id="e" begin="0" end="60" period="9" {EAST}/>'
    locks = watch(scene(tmp_path, "cross", routes, 300), lambda now_s: 0 if now_s < 200 else 2, 120)
    assert {lock.cause for lock in locks} == {STARVED}
    assert all(200 < lock.until_s < 220 and lock.held_at_end == 0 for lock in locks)


def test_a_vehicle_that_has_stopped_holds_up_those_behind_it(tmp_path):
    way = 'from="left0A0" to="B0right0"'
    broken = f'<trip id="broken" depart="0" {way}><stop lane="left0A0_0" startPos="60" endPos="70" duration="900"/></trip>'
    flow = f'<flow id="e" begin="20" end="60" period="10" {way}/>'
    (lock,) = watch(scene(tmp_path, "grid2x2", broken + flow, 250), alternating, 120)
    assert (lock.cause, lock.first, lock.held_at_end) == (STOP, ("broken",), 5)
    assert "vehicle broken has a stop of its own on lane left0A0_0" in report.sentence(SEED, lock)


def test_a_left_turn_without_a_gap(tmp_path):
    """Green all the time, but never its turn: the traffic from ahead goes first."""
    routes = '<flow id="left" begin="0" end="250" period="20" from="bottom0A0" to="A0left0"/>'
    ahead = '<flow id="ahead" begin="0" end="250" period="2" from="top0A0" to="A0bottom0" departSpeed="max" departLane="best"/>'
    locks = watch(scene(tmp_path, "cross", ahead + routes, 250), lambda now_s: 0, 100)
    assert [lock.cause for lock in locks] == [NO_GAP]
    (first,) = (locks[0].vehicles[name] for name in locks[0].first)
    assert (first.name.partition(".")[0], first.junction) == ("left", "A0")


def test_vehicles_at_a_red_of_usual_length_are_no_lock(tmp_path):
    assert not watch(scenario.load("cross"), alternating, 120)


def test_circles_of_blockers():
    blockers = {"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"], "e": ["f"], "f": ["e"], "g": [], "h": ["g"]}
    assert circles(blockers) == [("a", "b", "c"), ("e", "f")]
    assert circles({}) == []


def test_the_verb_writes_a_table_and_maps(tmp_path, capsys):
    given = ring(tmp_path)
    (tmp_path / "scenario.yaml").write_text(
        f"net: {given.net}\nroutes: [own.rou.xml]\nbegin_s: 0\nend_s: 260\nlicence: MIT\nsource: test\n", encoding="utf-8"
    )
    line = ["locks", "--network", str(tmp_path), "--policy", "fixed_time", "--eval-seeds", str(SEED), "--workers", "1"]
    assert main([*line, "--standing-s", "120", "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "1 of 1 episodes have vehicles that stand 120 s" in text
    assert max(map(len, (row for row in text.splitlines() if row.startswith(("│", "┃"))))) <= 80
    (path,) = (tmp_path / "out").glob("*.csv")
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 50
    assert {row["cause"] for row in rows} == {CIRCLE}
    assert all(row["blockers"] for row in rows)
    (picture,) = (tmp_path / "out").glob("*_1.png")
    assert picture.stat().st_size > 20_000


def test_bad_input(capsys):
    assert main(["locks", "--network", "cross", "--policy", "nobody"]) == 2
    one_line(capsys.readouterr().err)
    assert main(["locks", "--network", "cross", "--standing-s", "0"]) == 2
    assert "standing_s must be positive" in one_line(capsys.readouterr().err)


# vehicles that block each other for good


def one(folder, text):
    (folder / scenario.FILE).write_text(
        f"net: {scenario.NETWORKS}/cross/cross.net.xml\nroutes: [{scenario.NETWORKS}/cross/cross.rou.xml]\n"
        f"begin_s: 0\nend_s: 60\nlicence: a\nsource: b\n{text}\n",
        encoding="utf-8",
    )
    return scenario.load(str(folder))


@pytest.mark.parametrize(("field", "option"), [(name, f"--{name.removesuffix('_s').replace('_', '-')}") for name in PATIENCE])
def test_a_scenario_ends_waits_that_are_for_good(field, option, tmp_path):
    """By an option of SUMO, which the tags of runs tell; without it they have not changed."""
    given = [one(tmp_path, text) for text in ("", f"{field}: -1", f"{field}: 60", f"{field}: 0:01:30")]
    assert [getattr(each, field) for each in given] == [None, None, 60, 90]
    before, never, *tags = (fingerprint.of_scenario(each)["sumo_options"].split(" --") for each in given)
    assert before == never == fingerprint.of_scenario(scenario.load("cross"))["sumo_options"].split(" --")
    assert "ignore-junction-blocker" not in " ".join(before)
    assert "time-to-teleport -1" in before
    for tag, value in zip(tags, ("60", "90"), strict=True):
        assert set(tag) - set(before) == {f"{option[2:]} {value}"}


@pytest.mark.parametrize("field", PATIENCE)
@pytest.mark.parametrize("value", ["soon", "true", ".nan", "[1]"])
def test_what_is_no_time_to_end_waits_after(field, value, tmp_path):
    with pytest.raises(UserError, match=f"{field} must be a number of seconds, or be left out"):
        one(tmp_path, f"{field}: {value}")


def test_waits_that_are_for_good_end(tmp_path):
    given = dataclasses.replace(ring(tmp_path), time_to_teleport_s=60.0)
    assert not [lock for lock in watch(given, alternating, 120) if lock.until_s is None and lock.cause == CIRCLE]
