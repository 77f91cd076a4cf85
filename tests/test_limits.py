"""Limits of single signals in a scenario.yaml: kept in SUMO, seen by the check of the lights, refused in one line where wrong."""

import csv
import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers.cli import ROOT, one_line

from tsc_marl.cli.main import main
from tsc_marl.controllers import find
from tsc_marl.controllers.webster import PhaseDemand, best_plan
from tsc_marl.errors import UserError
from tsc_marl.evaluation.light_check import RANDOM_REQUESTS
from tsc_marl.evaluation.phase_log import limit_violations
from tsc_marl.rollout.task import Task, check_task
from tsc_marl.sim import fingerprint, road_network, scenario
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.signal_limits import SignalLimits
from tsc_marl.sim.signal_programs import Plan, xml
from tsc_marl.sim.signal_timing import PhaseChanges, Timing
from tsc_marl.sim.turning_counts import planning_context

NUMBERS = itertools.count()
"""Of folders: a process knows each network by its folder's name."""
MATRIX = "from / to,0,1,2,3\n0,,,7,\n1,4,,5,\n2,,9,,\n3,,,,\n"
OWN = """
  all: {max_green_s: 40, min_green_s: [7, 5, null, 5]}
  A0: {phases: [0, 1, 2, 3], order: fixed, max_green_s: 25, yellow_s: 3, all_red_s: 1}
  A1: {order: fixed, intergreen: A1.csv}
  B0: {phases: [0, 1, 2, 3], intergreen: A1.csv, yellow_s: 4}
"""


@pytest.fixture
def write(tmp_path):
    """Copy grid2x2 to a folder of its own, with limits in its scenario and a file of intergreen times."""

    def copy(limits, matrix=MATRIX, end_s=300):
        folder = tmp_path / f"limited{next(NUMBERS)}"
        shutil.copytree(ROOT / "networks" / "grid2x2", folder)
        (folder / "A1.csv").write_text(matrix, encoding="utf-8")
        text = (folder / scenario.FILE).read_text(encoding="utf-8").replace("end_s: 600", f"end_s: {end_s}")
        (folder / scenario.FILE).write_text(f"{text}limits: {limits}\n", encoding="utf-8")
        return str(folder)

    return copy


PHASES = ("GGr", "Grr", "rrG")
LIMITS = SignalLimits((0, 1, 2), "fixed", 4, 12, 2, 1, ((None, None, 5), (None,) * 3, (None,) * 3))
RIGHT = ["GGr"] * 10 + ["Gyr"] * 2 + ["Grr"] * 10 + ["yrr"] * 2 + ["rrr"] + ["rrG"] * 5
LOGS = {
    "wrong order": (["GGr"] * 10 + ["yyr"] * 2 + ["rrr"] * 3 + ["rrG"] * 5, 15, "phase 2 follows phase 0, in the fixed order 1"),
    "long green": (["GGr"] * 13 + RIGHT[10:], 0, "phase 0 is shown for 13 s, the most is 12 s"),
    "short green": (RIGHT[:12] + ["Grr"] * 3 + RIGHT[22:], 12, "phase 1 lasts 3 s, the least is 4 s"),
    "short intergreen": (["GGr"] * 10 + ["yyr"] * 2 + ["rrr"] * 2 + ["rrG"] * 5, 14, "starts 4 s after the green of phase 0"),
}  # fmt: skip


@pytest.mark.parametrize("fault", LOGS)
def test_the_check_sees_what_breaks_the_limits(fault):
    states, second, rule = LOGS[fault]
    assert not list(limit_violations(RIGHT, PHASES, LIMITS, Timing()))
    assert [v.second for v in limit_violations(states, PHASES, LIMITS, Timing()) if rule in v.rule] == [second]


def test_a_phase_that_is_left_out_is_seen():
    limits = SignalLimits((0, 2))
    assert [v.rule for v in limit_violations(RIGHT, PHASES, limits, Timing())][:1] == [
        "phase 1 is shown, which is not among limits.phases"
    ]


def test_the_lights_keep_the_limits_in_sumo(write, tmp_path, capsys):
    """Requests at random, legal or not; every second of SUMO's log is checked."""
    folder = write(OWN)
    line = f"check-lights --network {folder} --policy {RANDOM_REQUESTS} --timing-preset sumo-rl --workers 1"
    assert main([*line.split(), "--out", str(tmp_path / "out")]) == 0
    assert "random_requests" in capsys.readouterr().out
    net = road_network.of(scenario.load(folder))
    assert [signal.limits.order for signal in net.signals] == ["fixed", "fixed", "free", "free"]
    assert [signal.limits.max_green_s for signal in net.signals] == [25, 40, 40, 40]


def test_a_policy_sees_the_times_of_each_signal(write):
    """Columns of decision, change and least green [10 s]; B1 has only limits of `all`."""
    env = Task(write(OWN), Timing(yellow_s=2, all_red_s=1), SimConfig(observation="movements")).env()
    seen = env.reset(1)
    env.close()
    assert seen[:, -3:].tolist() == pytest.approx(np.array([[5, 4, 5], [5, 3, 5], [5, 5, 5], [5, 3, 5]]) / 10)


def test_written_intergreen_times_are_those_in_force(write, tmp_path):
    folder, out = write(OWN), tmp_path / "times"
    assert main(["networks", "--network", folder, "--intergreen", str(out), "--timing-preset", "field"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["A0.csv", "A1.csv", "B0.csv", "B1.csv"]
    assert (out / "A0.csv").read_text(encoding="utf-8").splitlines()[1] == "0,,4,4,4"
    assert (out / "A1.csv").read_text(encoding="utf-8").splitlines() == [
        "from / to,0,1,2,3",
        "0,,5,7,5",
        "1,4,,5,5",
        "2,5,9,,5",
        "3,5,5,5,",
    ]
    again = write("{A1: {intergreen: A1.csv}}", (out / "A1.csv").read_text(encoding="utf-8"))
    one, two = (
        road_network.of(scenario.load(place)).signals[1].changes(Timing(yellow_s=3, all_red_s=2)) for place in (folder, again)
    )
    assert [row[:i] + row[i + 1 :] for i, row in enumerate(one.intergreen_s)] == [
        row[:i] + row[i + 1 :] for i, row in enumerate(two.intergreen_s)
    ]


def test_runs_with_other_limits_do_not_mix(write):
    one, other, none = (
        scenario.load(place) for place in (write("{A0: {max_green_s: 40}}"), write("{A0: {max_green_s: 30}}"), "grid2x2")
    )
    assert len({fingerprint.of_scenario(loaded).get("limits") for loaded in (one, other, none)}) == 3
    before, here, plain = (fingerprint.of_signals(road_network.of(loaded)) for loaded in (one, other, none))
    says = ["signal A0: limits max_green_s 40 is gone, max_green_s 30 new"]
    assert fingerprint.signal_differences(before, here) == says
    assert fingerprint.signal_differences(before, plain) == ["signal A0: limits max_green_s 40 is gone, none new"]
    assert not any("limits" in parts for parts in plain.values())


OF_PLANS = ("webster", "green_wave", "actuated", "delay_based")
OF_PHASES = ("sotl", "max_pressure", "max_pressure_cyclic")


def test_every_controller_keeps_the_limits_in_sumo(write, tmp_path):
    """Plans that SUMO runs, and controllers that choose phases; no one is left out."""
    line = f"check-lights --network {write(OWN)} --timing-preset field --workers 1 --seeds 1 --out {tmp_path / 'out'}"
    assert main([*line.split(), "--policy", *OF_PLANS, *OF_PHASES]) == 0
    with (tmp_path / "out" / "lights.csv").open(encoding="utf-8") as file:
        rows = {row["controller"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {*OF_PLANS, *OF_PHASES}
    assert all(int(row["changes"]) > 40 for row in rows.values())


def test_a_wave_needs_a_cycle_that_all_signals_may_have(write):
    env = Task(write("{A0: {order: fixed, min_green_s: 25}, B1: {max_green_s: 16}}")).env()
    with pytest.raises(
        UserError, match=r"signal A0 needs a cycle of 108 s at least, and signal B1 may have (36|54|72) s at most"
    ):
        find("green_wave")(planning_context(env))


PLANS = {
    "order": (Plan((0, 2, 1, 3), (10,) * 4), "a cycle of its phases 0, 2, 1, 3 is not what its limits allow"),
    "left out": (Plan((0, 1, 2), (10,) * 3), "a cycle of its phases 0, 1, 2 is not what its limits allow"),
    "least": (Plan((0, 1, 2, 3), (10, 7, 10, 10)), "gives phase 1 a green of 7 s, and it needs 8 s"),
    "most": (Plan((0, 1, 2, 3), (10, 10, 41, 10)), "gives phase 2 a green of up to 41 s, and it may have 40 s"),
    "extended": (Plan((0, 1, 2, 3), (8,) * 4, most_s=(8, 8, 8, 45)), "gives phase 3 a green of up to 45 s, and it may have 40 s"),
    "red": (Plan((0, 1, 2, 3), (40,) * 4), "leaves a link red for 133 s, and timing.max_red_s is 120"),
}


@pytest.mark.parametrize("fault", PLANS)
def test_a_plan_that_breaks_a_limit_is_not_written(fault):
    """A change has 3 s of yellow and 1 s of red: a link of one phase is red for 1 s, and 3 (40 + 4) s of the others."""
    plan, says = PLANS[fault]
    states = tuple("".join("rG"[i == k] for k in range(4)) for i in range(4))
    limits = SignalLimits((0, 1, 2, 3), "fixed", 8, 40, 3, 1)
    signal = replace(road_network.of(scenario.load("cross")).signals[0], phases=states, limits=limits)
    assert "state=" in xml([signal], [Plan((0, 1, 2, 3), (10,) * 4)], Timing(max_red_s=120))
    with pytest.raises(UserError) as error:
        xml([signal], [plan], Timing(max_red_s=120))
    assert says in one_line(f"error: {error.value}\n")


@pytest.mark.parametrize(
    ("limits", "green_s"),
    [
        (SignalLimits(), (21, 15)),
        (SignalLimits(max_green_s=(12, None)), (12, 24)),
        (SignalLimits(min_green_s=(None, 20)), (16, 20)),
        (SignalLimits(intergreen=((None, 11), (None, None))), (29, 19)),
        (SignalLimits(max_green_s=10), (10, 10)),
    ],
)
def test_the_limits_bound_the_plan_of_webster(limits, green_s):
    """Flows of .3 and .2 of a lane. C = (1.5 L + 5) / .5: 46 s with L = 12 s, and 64 s with L = 18 s."""
    demand = PhaseDemand(np.eye(2), np.eye(2) > 0, np.eye(2) > 0, np.array([0.3, 0.2]))
    changes = PhaseChanges(("Gr", "rG"), Timing(yellow_s=3, all_red_s=2), (), limits)
    assert best_plan(demand, changes).green_s == green_s


def test_a_log_that_starts_in_the_middle():
    assert not list(limit_violations(RIGHT[8:], PHASES, LIMITS, Timing(), cut=True))
    assert [v.rule for v in limit_violations(RIGHT[8:], PHASES, LIMITS, Timing())] == ["phase 0 lasts 2 s, the least is 4 s"]


def test_a_note_names_who_shows_the_programs_of_the_files(write, tmp_path, caplog):
    line = f"evaluate --network {write(OWN)} --policy max_pressure fixed_time --eval-seeds 1 --out {tmp_path / 'out'} --workers 1"
    assert main(line.split()) == 0
    assert "note: fixed_time: programs of the files do not keep the limits of scenario.yaml" in caplog.text


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ("[A0]", "limits must be names of signals, or all, each with its limits; got ['A0']"),
        ("{1: {order: fixed}}", "limits must name signals by texts, numbers in quotes; got 1"),
        ("{A00: {order: fixed}}", "limits: agent A00 not found; did you mean A0? (available: A0, A1, B0, B1)"),
        ("{A0: {max_gren_s: 40}}", "limits of A0: limit max_gren_s not found; did you mean max_green_s?"),
        ("{A0: {order: any}}", "limits of A0: order must be one of free, fixed; got 'any'"),
        ("{A0: {phases: [1]}}", "limits of A0: phases must be a list of at least two numbers of phases, none twice; got [1]"),
        ("{A0: {phases: [0, 4]}}", "signal A0: limits.phases has 4; its phases are 0 .. 3"),
        ("{A0: {min_green_s: [5, 5]}}", "limits.min_green_s has 2 entries, one a phase is expected; its phases are 0 .. 3"),
        ("{A0: {yellow_s: 2.5}}", "limits of A0: yellow_s must be a whole number of seconds from 0 on; got 2.5"),
        ("{A0: {intergreen: none.csv}}", "none.csv cannot be read"),
        ("{A1: {intergreen: A1.csv, yellow_s: 8}}", "intergreen 7 from phase 0 to phase 2 is shorter than its yellow of 8 s"),
        ("{A0: {phases: [0, 1]}}", "signal A0: limits.phases 0, 1 never give links 3 (B0A0.110.00_0 -> A0A1_0), 4 "),
        ("{A0: {min_green_s: 30, max_green_s: 20}}", "max_green_s 20 of phase 0 cannot be kept: with a least green of 30 s"),
        ("{A0: {order: fixed, min_green_s: 40}}", "max_red_s 120 cannot be kept: its 4 phases need 137 s between two greens"),
    ],
)  # fmt: skip
def test_wrong_limits_are_refused_in_one_line(limits, says, write):
    with pytest.raises(UserError) as error:
        check_task(Task(write(limits), Timing(max_red_s=120)))
    assert says in one_line(f"error: {error.value}\n")


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        ("from,0,1\n0,,3\n", "must have a row and a column for each phase, headed 0, 1, 2 and so on"),
        ("", "must have a row and a column for each phase"),
        ("from;0;1\n0;;3.5\n1;3;\n", "has '3.5' from phase 0 to phase 1; expected whole seconds"),
        ("from,0,1\n0,,3\n1,3,\n", "limits.intergreen has 2 rows, one a phase is expected"),
    ],
)
def test_wrong_files_of_intergreen_times(matrix, says, write):
    with pytest.raises(UserError) as error:
        check_task(Task(write("{A0: {intergreen: A1.csv}}", matrix)))
    assert says in one_line(f"error: {error.value}\n")
