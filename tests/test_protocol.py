"""`evaluate`: statistics against closed forms, files, tables and maps, disturbances, and what goes wrong without loss."""

import csv
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.cli import one_line
from mlflow import MlflowClient
from PIL import Image

from tsc_marl import old_options
from tsc_marl.benchmarks import resco
from tsc_marl.evaluation import session, statistics, tables
from tsc_marl.evaluation.evaluate import load_matching_results
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import EpisodeMetrics
from tsc_marl.sim import disturbances, scenario
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.metrics import Metric

pytest_plugins = ["helpers.fixtures"]


def rows(delays, first=1):
    return [EpisodeMetrics(first + i, {"delay": delay}) for i, delay in enumerate(delays)]


def test_the_interval_of_a_mean_is_students_for_many_normal_values():
    """The bootstrap agrees with mean -+ 1.96 s / sqrt(n) where that is right, and covers the true mean 95 times of 100."""
    rng = np.random.default_rng(0)
    values = rng.normal(10, 2, 400)
    low, high = statistics.interval(values.tolist())
    assert low == pytest.approx(values.mean() - 1.96 * values.std() / 20, abs=0.02)
    assert high == pytest.approx(values.mean() + 1.96 * values.std() / 20, abs=0.02)
    covered = [low <= 10 <= high for low, high in (statistics.interval(rng.normal(10, 2, 30).tolist()) for _ in range(200))]
    assert 0.88 <= np.mean(covered) <= 0.98


def test_paired_differences_use_the_same_seeds():
    """What both have in common falls out: seeds differ by 100 s, the controllers by 1 to 3 s."""
    mine, base = rows([101, 202, 303]), rows([100, 200, 300, 400])
    assert statistics.paired(mine, base) == (2.0, *statistics.interval([1, 2, 3]))
    assert statistics.paired(rows([5], first=9), base) == pytest.approx((np.nan,) * 3, nan_ok=True)
    value, low, _ = statistics.paired(rows([101]), base)
    assert value == 1
    assert np.isnan(low)  # one seed: no interval


def test_networks():
    assert session.networks(["all"]) == scenario.available()
    assert session.networks(["cross", "cologne1"]) == ["cross", "cologne1"]


def test_a_controller_that_cannot_serve_a_network_is_left_out(home, tmp_path, capsys):
    line = "evaluate --net cologne1 cross --controller green_wave max_wave fixed_time --eval-seeds 1 2 --workers 2 --out"
    assert home.main([*line.split(), str(tmp_path)]) == 0
    out = capsys.readouterr().out
    said = "green_wave is left out: green_wave cannot serve cologne1: no vehicle passes two signals one after the other"
    assert out.count(said) == 1
    assert "fixed_time [s]" in out
    for network in ("cologne1", "cross"):
        content = json.loads((tmp_path / network / "metrics.json").read_text(encoding="utf-8"))
        assert content["network"] == network
        assert content["timing"]["yellow_s"] == 2
        assert content["demand"]["scale"] == 1
        assert set(content["results"]) == {"max_wave", "fixed_time"}
        with (tmp_path / network / "metrics.csv").open(encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        assert [(row["controller"], row["seed"]) for row in lines] == [
            (name, seed) for name in ("max_wave", "fixed_time") for seed in "12"
        ]
        assert float(lines[0]["delay"]) == content["results"]["max_wave"][0]["delay"]
        with Image.open(tmp_path / network / "delay_map.png") as picture:
            colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
        assert len(colours) > 100  # roads in the colours of the scale, not an empty page
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("cross").experiment_id], "tags.kind = 'evaluation'")
    assert run.data.metrics.keys() == {"eval_delay_s/max_wave", "eval_delay_s/fixed_time"}
    assert run.data.metrics["eval_delay_s/max_wave"] == pytest.approx(np.mean([float(row["delay"]) for row in lines[:2]]))
    kept = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert kept == {"metrics.json", "metrics.csv", "delay_map.png", "approaches.csv", "movements.csv"}


class Vehicles(Metric):
    """Number of vehicles."""

    unit = "veh"

    def __call__(self, episode):
        return len(episode.trips.ids)


class Fails(Vehicles):
    """Raises an error."""

    def __call__(self, episode):
        raise ValueError("no such vehicle")


def test_named_metrics_are_columns_also_in_narrow_terminals():
    named = ("test_protocol:Vehicles", "co2", "stops", "delay")
    columns = tables.result_columns("fixed_time", named)
    titles = [column.title for column in columns]
    assert titles[-2:] == ["test_protocol:\nVehicles [veh]", "co2 [kg]"]
    assert len(titles) == len(set(titles)) == len(tables.COLUMNS) + 2
    left_out = [column.key for column in columns if column.title in tables.left_out_first(columns)]
    assert "queue" in left_out
    assert not {"test_protocol.Vehicles", "co2", "stops", "delay"} & set(left_out)


def test_named_metrics_are_measured_logged_and_shown(home, tmp_path, capsys):
    line = f"evaluate --net cross --policy max_wave --eval-seeds 1 --workers 1 --metrics test_protocol:Vehicles --out {tmp_path}"
    assert home.main(line.split()) == 0
    (row,) = json.loads((tmp_path / "cross" / "metrics.json").read_text(encoding="utf-8"))["results"]["max_wave"]
    assert row["test_protocol.Vehicles"] == row["scheduled"]
    assert f"{row['scheduled']:.2f}" in capsys.readouterr().out
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("cross").experiment_id], "tags.kind = 'evaluation'")
    assert run.data.metrics["eval_test_protocol.Vehicles/max_wave"] == row["scheduled"]
    named = Task("cross", metrics=("test_protocol:Vehicles",))
    for task, names in ((named, ["max_wave"]), (replace(named, metrics=("test_protocol:Fails",)), [])):
        assert list(load_matching_results(tmp_path / "cross" / "metrics.json", task, ["max_wave"], [1])) == names


def test_a_metric_that_fails_is_one_line(home, tmp_path, capsys):
    line = f"evaluate --net cross --policy max_wave --eval-seeds 1 --workers 1 --metrics test_protocol:Fails --out {tmp_path}"
    assert home.main(line.split()) == 2
    assert "metric test_protocol.Fails failed with ValueError: no such vehicle" in one_line(capsys.readouterr().err)


def test_nothing_measured_is_a_mistake(home, tmp_path, capsys):
    line = f"evaluate --net cologne1 --controller green_wave --eval-seeds 1 --workers 1 --out {tmp_path}"
    assert home.main(line.split()) == 2
    assert "nothing could be measured on cologne1: green_wave cannot serve cologne1" in capsys.readouterr().err


def test_stress(home, tmp_path, capsys):
    line = f"evaluate --net grid2x2 --controller max_wave actuated --eval-seeds 1 --workers 2 --out {tmp_path}"
    assert home.main([*line.split(), "--disturbances", "demand-130", "blind-20"]) == 0
    out = capsys.readouterr().out
    calm = json.loads((tmp_path / "grid2x2" / "metrics.json").read_text(encoding="utf-8"))["results"]
    files = [tmp_path / "grid2x2" / f"disturbance_{name}.json" for name in ("demand-130", "blind-20")]
    more, blind = (json.loads(path.read_text(encoding="utf-8")) for path in files)
    assert more["disturbance"]["demand"] == 1.3
    assert set(more["results"]) == {"max_wave", "actuated"}
    assert set(blind["results"]) == {"max_wave", "actuated"}
    usual, worse = (found["max_wave"][0]["delay"] for found in (calm, more["results"]))
    assert f"{worse:.1f} ({worse / usual:.2f})" in out


def test_old_names_of_disturbances_are_reported_once(caplog):
    old = "--stress demand-0.7 demand-1.3 blind-20% frozen-20% missed-20% lane-blocked --seed 1"
    today = "--disturbances demand-70 demand-130 blind-20 frozen-20 missed-20 lane-blocked --seed 1"
    assert old_options.replace(old.split()) == today.split()
    (line,) = caplog.messages
    assert "demand-0.7 is now demand-70" in line
    assert set(today.split()[1:-2]) <= set(disturbances.available())
    assert old_options.replace(today.split()) == today.split()
    assert len(caplog.messages) == 1


def test_varied_demand(home, tmp_path):
    line = f"evaluate --net grid2x2 --controller max_wave --eval-seeds 1 2 --workers 2 --demand.resample 1 --out {tmp_path}"
    assert home.main(line.split()) == 0
    found = json.loads((tmp_path / "grid2x2" / "metrics.json").read_text(encoding="utf-8"))["results"]["max_wave"]
    assert len({row["scheduled"] for row in found} | {scenario.scheduled(scenario.load("grid2x2"))}) == 3


def test_a_crash_in_one_episode_keeps_the_others(home, tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("TSC_MARL_HOME", str(home.folder))
    task = Task("cross", sim=SimConfig(reward="helpers.rewards:dies_with_seed_2"))
    with Pool(2) as pool:
        evaluation = session.EvaluationSession(pool, (1, 2, 3), tmp_path, "fixed_time")
        found = evaluation.measure(task, {"max_wave": ControllerPolicy("max_wave")})
    assert [episode.seed for episode in found["max_wave"]] == [1, 3]
    assert evaluation.crashed == 1
    assert "cross: the episode of max_wave with seed 2 failed: worker processes died 3 times" in caplog.text


def test_training_and_evaluation_have_their_own_demand(home, tmp_path):
    line = (
        "train --net cross --algos ippo --episodes 2 --algo.epochs 1 --eval-seeds 1 --baselines fixed_time --workers 1 "
        "--demand.scale 0.5 --eval-demand.scale 2"
    )
    assert home.main(line.split()) == 0
    planned = scenario.scheduled(scenario.load("cross"))
    (folder,) = (home.folder / "runs").iterdir()
    content = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert content["demand"]["scale"] == 2
    assert content["results"]["fixed_time"][0]["scheduled"] == pytest.approx(2 * planned, rel=0.05)
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("cross").experiment_id], "tags.kind = 'training'")
    curves = pd.read_csv(client.download_artifacts(runs[0].info.run_id, "curves.csv"))
    assert curves["traffic/scheduled"].iloc[-1] == pytest.approx(planned / 2, rel=0.15)
    assert runs[0].data.params["demand.scale"] == "0.5"


def test_the_results_page():
    """Made of figures of its own: the best is bold, what a network lacks is a dash, and the published figures stand there."""
    figures = {"delay_p95": 1.0, "stops": 1.0, "arrived": 1.0, "scheduled": 2.0, "never_inserted": 0.0, "gridlock": 0.5}
    found = {
        (network, timing): {
            name: [EpisodeMetrics(seed, {**figures, "delay": delay + seed}) for seed in (0, 1)]
            for name, delay in (("webster", 20.0), ("green_wave", 30.0))
            if not (network == "cologne1" and name == "green_wave")
        }
        for network in resco.NETWORKS
        for timing in resco.TIMINGS
    }
    page = resco.text(found)
    assert page.count("| webster | **20.5** |") == 4
    assert page.count("| green_wave | 30.5 | 30.5 | - | 30.5 |") == 2
    assert "| webster | 20.5 | 20.0 .. 21.0 | 20.5 | 1 | 1.00 | 1 of 2 | 0.0 | 50% |" in page
    assert "Published: max wave 34.32, max pressure 52.55, IDQN 32.95" in page


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.sumo
def test_results_are_measured_once_and_what_failed_again(home, tmp_path, monkeypatch):
    monkeypatch.setenv("TSC_MARL_HOME", str(home.folder))
    for name, value in (("NETWORKS", ("cross",)), ("TIMINGS", ("sumo-rl",)), ("EVAL_SEEDS", (1, 2))):
        monkeypatch.setattr(resco, name, value)
    monkeypatch.setitem(resco.PUBLISHED, "cross", resco.PUBLISHED["grid4x4"])
    monkeypatch.setattr(resco.controllers, "available", lambda: ["max_wave"])
    out, page = tmp_path / "out", tmp_path / "docs" / "page.md"
    with monkeypatch.context() as dying:
        dying.setattr(resco, "Task", lambda *given: Task(*given, SimConfig(reward="helpers.rewards:dies_with_seed_2")))
        with pytest.raises(SystemExit, match=r"failed on cross with timing sumo-rl, .* the same command measures these again"):
            resco.run(2, out, page)
    assert not page.exists()
    resco.run(2, out, page)
    measured = out / "sumo-rl" / "cross" / "metrics.json"
    written, found = measured.stat().st_mtime_ns, json.loads(measured.read_text(encoding="utf-8"))["results"]["max_wave"]
    assert [row["seed"] for row in found] == [1, 2]
    assert f"| max_wave | **{np.mean([row['delay'] for row in found]):.1f}** |" in page.read_text(encoding="utf-8")
    assert (page.parent / "maps" / "cross.png").exists()
    resco.run(2, out, page)
    assert measured.stat().st_mtime_ns == written
    monkeypatch.setattr(resco.controllers, "available", lambda: ["fixed_time", "max_wave"])
    with monkeypatch.context() as stopped:
        stopped.setattr(session.delay_map, "draw", interrupt)
        with pytest.raises(KeyboardInterrupt):
            resco.run(2, out, page)
    assert json.loads(measured.read_text(encoding="utf-8"))["results"] == {"max_wave": found}
    resco.run(2, out, page)
    assert json.loads(measured.read_text(encoding="utf-8"))["results"]["max_wave"] == found
    assert "| fixed_time |" in page.read_text(encoding="utf-8")
