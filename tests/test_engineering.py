"""The engineers' pictures: their numbers are those of SUMO's own files, and mistakes are one line."""

import csv
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from helpers.cli import one_line
from PIL import Image

from tsc_marl.cli.main import main
from tsc_marl.evaluation import signal_log
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import Job
from tsc_marl.rollout.worker import Worker
from tsc_marl.sim import road_network
from tsc_marl.sim.lights import Lights
from tsc_marl.sim.service import ALL, Service, file_of, read
from tsc_marl.tracking.stored_runs import StoredRuns
from tsc_marl.viz import approach_delay, traffic_files
from tsc_marl.viz.engineering import corridor, played, service, splits, time_space
from tsc_marl.viz.engineering.corridor import Corridor, Stop
from tsc_marl.viz.engineering.pictures import NAMES

GRID, SEED = Task("grid2x2"), 1000
NET = road_network.of(GRID.scenario)
OF = approach_delay.approaches(GRID.scenario, NET)
POLICIES = ("max_pressure", "fixed_time")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("home")
        patch.setenv("TSC_MARL_HOME", str(path))
        line = f"evaluate --network grid2x2 --policy {' '.join(POLICIES)} --eval-seeds {SEED} --plots --workers 1 --out"
        assert main([*line.split(), str(path / "out")]) == 0
        yield path


@pytest.fixture(scope="module")
def folder(home):
    return home / "out" / "grid2x2"


@pytest.fixture(scope="module")
def episode(folder):
    return played.read(folder / "fixed_time", SEED, NET, OF, 0, 600)


def test_every_picture_is_there_and_in_the_store(folder, home):
    run = StoredRuns("grid2x2").newest_with_pictures()
    assert run.data.tags["pictures"] == ", ".join(POLICIES)
    for name in NAMES:
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        stored = StoredRuns("grid2x2").download(run.info.run_id, f"{name}.png")
        with Image.open(stored) as picture:
            assert picture.size[0] == 1280
            assert np.asarray(picture.convert("L")).std() > 10


def test_trajectories_are_those_of_sumo(folder, episode):
    """A vehicle's line is its distance in the floating car data, through edges and junctions."""
    way = corridor.along(GRID.scenario, NET, ["A0", "B0"])
    driven = time_space.trajectories(way, NET, episode.files.paths)
    table = pd.read_csv(folder / "fixed_time" / f"trajectories_{SEED}.csv.gz", sep=";").dropna()
    begin_m = table["vehicle_lane"].str.rpartition("_")[0].map(way.begin_m)
    on = begin_m.notna()
    expected = sorted(zip(table["timestep_time"][on] + 1, (begin_m + table["vehicle_pos"])[on], strict=True))
    assert len(expected) > 1000
    np.testing.assert_allclose(sorted(zip(driven.second, driven.along_m, strict=True)), expected, atol=1e-6)
    steps = np.diff(driven.along_m)[np.diff(driven.line) == 0]
    assert steps.min() >= -1
    assert steps.max() < 17  # nobody jumps over a junction
    whole, free = time_space.without_stop(driven, way)
    assert whole > 30
    assert free <= whole


def test_splits_add_up_with_the_log_of_the_lights(folder):
    with (folder / "splits.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for policy in POLICIES:
        logged = signal_log.read(folder / policy / f"tls_{SEED}.xml")
        for signal in NET.signals:
            own = [row for row in rows if (row["policy"], row["signal"]) == (policy, signal.name)]
            shares = [
                [state.lower() for state in logged[signal.name]].count(phase.lower()) / len(logged[signal.name])
                for phase in signal.phases
            ]
            assert [float(row["green_share"]) for row in own] == pytest.approx(shares, abs=1e-4)
            assert sum(shares) + float(own[0]["change_share"]) == pytest.approx(1, abs=1e-4)
    program = ElementTree.parse(GRID.scenario.net).getroot().find("tlLogic")
    cycle_s = sum(float(phase.get("duration")) for phase in program.findall("phase"))
    assert {float(row["cycle_mean_s"]) for row in rows if row["policy"] == "fixed_time"} == {cycle_s}


def test_queues_are_the_halting_vehicles_of_sumos_summary(folder, episode):
    total = episode.queue.sum(axis=1)
    steps = [step.attrib for step in ElementTree.parse(folder / "fixed_time" / f"summary_{SEED}.xml").getroot().iter("step")]
    expected = [int(step["halting"]) + int(step["waiting"]) for step in steps]
    assert max(expected) > 10
    shown = [total[int(float(step["time"]))] for step in steps]
    assert np.abs(np.subtract(shown, expected)).max() <= 2  # speeds in the file are rounded to 0.01 m/s


def test_the_table_of_service_has_the_numbers_of_the_file(folder):
    with (folder / "approaches.csv").open(encoding="utf-8") as file:
        written = [row for row in csv.DictReader(file) if row["policy"] == "fixed_time" and row["signal"]]
    rows = service.by_signal(read(file_of(folder / "fixed_time", SEED)))
    approaches, signals = ([row for row in rows if (row.approach == ALL) == whole] for whole in (False, True))
    assert [(row["signal"], row["road"], float(row["delay_s"])) for row in written] == [
        (row.signal, row.road, pytest.approx(row.delay_s, abs=0.01)) for row in approaches
    ]
    for signal in signals:
        own = [row for row in written if row["signal"] == signal.signal]
        assert signal.vehicles == sum(int(row["vehicles"]) for row in own)
        assert signal.delay_s * signal.vehicles == pytest.approx(sum(float(row["lost_s"]) for row in own), abs=0.1)
    texts = [text.get_text() for text in service.draw({"fixed_time": rows}, "title").axes[0].texts]
    assert [f"{row.delay_s:.1f}" for row in rows] == texts[texts.index("A0") + 2 :: 4][: len(rows)]


# by hand


def test_a_band_is_where_both_signals_are_green_for_who_drives_at_the_limits():
    """Green at the first stop line in seconds 0 to 9, at the second from 12 to 17; 10 s of driving between them."""
    way = Corridor({}, 100.0, (Stop(0, 20.0, 2.0, (0,)), Stop(1, 120.0, 12.0, (0,))))
    lights = [Lights(["G", "r"], [0, 10], [0, 1]), Lights(["r", "g"], [0, 12, 18], [0, 1, 0])]
    green = time_space.shown(way, lights, 30, "gG")
    assert np.flatnonzero(green[1]).tolist() == list(range(12, 18))
    band = time_space.bands(way, green)
    assert np.flatnonzero(band.through).tolist() == list(range(2, 8))
    assert np.flatnonzero(band.legs[0]).tolist() == list(range(2, 8))


def test_an_approach_without_vehicles_has_no_level():
    nobody, stuck = (Service("A0", "road", "", "west", ALL, 0, 0, lost_s) for lost_s in (0.0, 5.0))
    texts = [text.get_text() for text in service.draw({"a": [nobody], "b": [stuck]}, "title").axes[0].texts]
    assert texts[-7:] == ["0", "–", "–", "0", "none left", "F", "–"]


def test_cycles_are_counted_from_the_phase_with_the_most_green():
    lights = Lights(["Gr", "rG", "rr"], [0, 10, 12, 40, 42, 50, 52], [0, 2, 1, 2, 0, 2, 1])
    of = splits.split(lights, ("Gr", "rG"), 60)
    assert of.cycles_s.tolist() == [40]
    assert [*of.share, of.change] == pytest.approx([18 / 60, 36 / 60, 6 / 60])


def test_the_corridor_that_nobody_named_is_the_busiest(episode):
    busy = corridor.busiest(GRID.scenario, NET, episode.files.paths)
    assert [NET.signals[stop.signal].name for stop in busy.stops] in (["A0", "B0"], ["B0", "A0"], ["A0", "A1"], ["B1", "B0"])
    named = corridor.along(GRID.scenario, NET, [NET.signals[stop.signal].name for stop in busy.stops])
    assert named == busy
    assert busy.length_m > busy.stops[-1].at_m > busy.stops[0].at_m > 100


def test_a_network_of_one_signal_has_its_pictures_too(home, tmp_path):
    line = f"evaluate --network cross --policy fixed_time --eval-seeds {SEED} --plots --out {tmp_path} --workers 1"
    assert main(line.split()) == 0
    assert all((tmp_path / "cross" / f"{name}.png").is_file() for name in NAMES)


MISTAKES = [
    ("A0 B2", "signal B2 not found (available: A0, A1, B0, B1)"),
    ("A0", "plots takes no signal, or two or more as one drives past them; got A0"),
    ("A0 A0", "plots needs at least one entry and none twice; got A0 A0"),
]


@pytest.mark.parametrize(("names", "message"), MISTAKES)
def test_a_corridor_that_is_none_is_refused_before_anything_is_played(tmp_path, capsys, names, message):
    line = f"evaluate --network grid2x2 --policy fixed_time --out {tmp_path / 'out'} --plots {names}"
    assert main(line.split()) == 2
    assert message in one_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_trajectories_go_where_the_job_has_its_files(tmp_path):
    """A machine of a cluster plays a job in a folder of its own, and sends back what is there."""
    job = Job(0, GRID, ControllerPolicy("fixed_time"), SEED, out=tmp_path / "head", keep_trajectories=True)
    worker = Worker()
    worker.play(replace(job, out=tmp_path / "node"))
    worker.close()
    assert traffic_files.read(tmp_path / "node", SEED, NET, 0).paths.ids
    assert not (tmp_path / "head").exists()
