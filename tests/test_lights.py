"""The check of the lights: it finds every planted fault, and the verb names network, signal and second."""

import csv
import re

import pytest
from helpers.cli import one_line

from tsc_marl.evaluation import light_check
from tsc_marl.evaluation.signal_log import StreetSignals, greens_ended, read, timing_violations
from tsc_marl.sim import scenario
from tsc_marl.sim.signal_timing import Timing

pytest_plugins = ["helpers.fixtures"]

TIMING = Timing(yellow_s=2, all_red_s=1, min_green_s=3, max_red_s=8)
GOOD = ["Gr"] * 4 + ["yr"] * 2 + ["rr"] + ["rG"] * 4
FAULTS = {
    "short yellow": (["Gr"] * 4 + ["yr"] + ["rr"] * 2 + ["rG"] * 4, 5, "link 0 shows r, not y, 1 s after its green ended"),
    "long yellow": (["Gr"] * 4 + ["yr"] * 3 + ["rG"] * 4, 6, "link 0 shows y, not r, 2 s after its green ended"),
    "no all-red": (["Gr"] * 4 + ["yr"] * 2 + ["rG"] * 5, 6, "green of link 1 starts 2 s after others ended, not 3 s"),
    "green during yellow": (["Gr"] * 4 + ["yG"] * 2 + ["rG"] * 5, 4, "green of link 1 starts 0 s after others ended"),
    "no yellow": (["Gr"] * 4 + ["rr"] * 3 + ["rG"] * 4, 4, "link 0 shows r, not y, 0 s after its green ended"),
    "short green": (["Gr"] * 2 + GOOD[4:], 0, "green of link 0 lasts 2 s, the least is 3 s"),
    "long red": (["Gr"] * 9 + GOOD[4:], 0, "red of link 1 lasts 12 s, the longest is 8 s"),
    "yellow after red": ([*GOOD, "rG", "yG"], 12, "link 0 goes from r to y"),
    "green after yellow": ([*GOOD[:5], "Gr"], 5, "link 0 goes from y to G"),
    "long yellow at the start": (["yr"] * 3 + ["rr"] + ["rG"] * 4, 0, "yellow of link 0 lasts 3 s, not 2 s"),
}


WALK = Timing(yellow_s=1, min_green_s=2, min_walk_s=3, max_crossing_red_s=12)
CROSSED = ["GrG"] * 3 + ["Grr"] * 3 + ["yrr"] + ["rGr"] * 2
CROSSING_FAULTS = {
    "early green": (
        ["GrG"] * 3 + ["Grr"] * 2 + ["yrr"] + ["rGr"] * 3,
        6,
        "green of link 1 starts 3 s after others ended, not 4 s",
    ),
    "yellow": ([*CROSSED[:3], "Gry", *CROSSED[4:]], 3, "link 2 shows y, not r, 0 s after its green ended"),
    "short walk": (CROSSED[1:], 0, "green of crossing 2 lasts 2 s, the least is 3 s"),
    "long red": (CROSSED + ["rGr"] * 7, 3, "red of crossing 2 lasts 13 s, the longest is 12 s"),
}


@pytest.mark.parametrize("fault", CROSSING_FAULTS)
def test_the_check_sees_faults_of_crossings(fault):
    """4 m at 1.2 m/s: 4 s from the end of a walk to the next green."""
    states, second, rule = CROSSING_FAULTS[fault]
    assert not list(timing_violations(CROSSED, WALK, crossings={2: 4.0}))
    assert [v.second for v in timing_violations(states, WALK, crossings={2: 4.0}) if rule in v.rule] == [second]


def test_the_check_passes_what_is_right():
    assert not list(timing_violations(GOOD, TIMING))
    assert greens_ended(GOOD) == 1


def test_a_log_that_starts_in_the_middle_of_a_green():
    assert not list(timing_violations(GOOD[2:], TIMING, cut=True))
    assert list(timing_violations(GOOD[2:], TIMING))


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_sees_each_kind_of_fault(fault):
    states, second, rule = FAULTS[fault]
    assert [v.second for v in timing_violations(states, TIMING) if rule in v.rule] == [second]


def cross_cycle():
    """The states of one cycle of cross, from its file by regular expression."""
    text = scenario.load("cross").net.read_text(encoding="utf-8")
    phases = re.findall(r'<phase duration="(\d+)" +state="(\w+)"', text)
    return [state for seconds, state in phases for _ in range(int(seconds))]


def test_crossing_greens_and_greens_that_no_phase_has():
    street, cycle = StreetSignals(scenario.load("cross").net), cross_cycle()
    assert not list(street.violations("A0", cycle))
    wrong = {(v.second, v.rule.split(":")[0]) for v in street.violations("A0", [*cycle, "G" * len(cycle[0])])}
    assert {second for second, _ in wrong} == {len(cycle)}
    assert any(rule.endswith("cross, and both have a green that yields to nobody") for _, rule in wrong)
    street.programs["A0"].addPhase("G" * len(cycle[0]), 1)
    assert "to nobody, as in the program of the network file: " in next(street.violations("A0", ["G" * len(cycle[0])])).rule
    only_unknown = cycle[0].replace("G", "g")
    assert [v.rule for v in street.violations("A0", [only_unknown])] == [
        f"no phase of the network file has the greens of {only_unknown}"
    ]


def test_a_program_a_second_late():
    street, cycle = StreetSignals(scenario.load("cross").net), cross_cycle()
    assert not list(street.program_violations("A0", cycle * 2, 0, by_the_clock=True))
    late = list(street.program_violations("A0", cycle * 2, 1, by_the_clock=True))
    assert [(v.second, cycle[v.second] == cycle[v.second + 1]) for v in late] == [(late[0].second, False)]


def test_a_log_without_a_second_is_refused(tmp_path):
    path = tmp_path / "tls.xml"
    rows = "".join(f'<tlsState time="{t}.00" id="a" state="G"/>' for t in (0, 1, 3))
    path.write_text(f"<tlsStates>{rows}</tlsStates>", encoding="utf-8")
    with pytest.raises(ValueError, match=r"signal a goes from second 1\.0 to 3\.0"):
        read(path)


def test_seeds_follow_until_the_signal_seconds_are_reached():
    played = light_check.cases(["cross", "grid2x2"], ["random"], ["field"])
    assert [case.signal_seconds for case in played] == [600, 2400]
    chosen = light_check.episodes(played, (5, 9), 8000)
    assert {seed for _, seed in chosen} == {5, 9, 10}
    assert 8000 <= sum(case.signal_seconds for case, _ in chosen) < 8000 + 2400
    assert len(light_check.episodes(played, (5, 9), None)) == 4


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_verb(home, tmp_path, capsys):
    line = ["check-lights", "--network", "cross", "--policy", "fixed_time", light_check.RANDOM_REQUESTS, "webster"]
    assert home.main([*line, "--seeds", "3", "4", "--workers", "2", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"random_requests │ +field │ +3 \.\. 4 │ +1,200 │ +\d+ │ +0 │", out)
    assert re.search(r"total +│ +- │ +- │ +- │ +10,800 │ +[\d,]+ │ +0 │", out)
    lights = rows(tmp_path / "out" / "lights.csv")
    assert len(lights) == 3 * 3 * 2
    assert all(int(row["changes"]) > 10 for row in lights if row["timing"] == "field")
    assert rows(tmp_path / "out" / "violations.csv") == []
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"lights.csv", "violations.csv"}


BROKEN = '''
from tsc_marl.controllers import Controller

class {name}(Controller):
    sumo_controlled = True
    programs = """<additional><tlLogic id="A0" programID="broken" type="static" offset="0">
        {phases}</tlLogic></additional>"""
'''


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Return a function that writes a controller whose program SUMO shows; its worker processes import it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(module, phases):
        content = "".join(f'<phase duration="{seconds}" state="{state}"/>' for state, seconds in phases)
        (tmp_path / f"{module}.py").write_text(BROKEN.format(name="Broken", phases=content), encoding="utf-8")
        return f"{module}:Broken"

    return write


@pytest.mark.parametrize(
    ("module", "change", "rule"),
    [
        ("lights_short_yellow", lambda green, yellow: [(green, 33), (yellow, 1)], "not y, 1 s after its green ended"),
        ("lights_crossing", lambda green, _: [("G" * len(green), 90)], "cross, and both have a green"),
    ],
)
def test_the_verb_finds_a_broken_program(home, tmp_path, broken, capsys, module, change, rule):
    cycle = list(dict.fromkeys(cross_cycle()))
    name = broken(module, change(cycle[0], cycle[1]))
    line = ["check-lights", "--network", "cross", "--policy", name, "--timing-preset", "sumo-rl", "--out", str(tmp_path / "out")]
    assert home.main(line) == 2
    error = one_line(capsys.readouterr().err)
    assert re.match(
        rf"error: \d+ violations of the lights; the first: cross, {name}, timing sumo-rl, seed 1000: signal A0, ", error
    )
    found = rows(tmp_path / "out" / "violations.csv")
    assert any(rule in row["rule"] for row in found)
    assert {row["signal"] for row in found} == {"A0"}
    assert list((tmp_path / "out" / "logs").glob("*/tls_1000.xml"))
