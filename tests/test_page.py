"""The report: its verdicts, what the page shows and refuses, on real trainings in a real store."""

import base64
import dataclasses
import re
import shutil
import sqlite3

import numpy as np
import pandas as pd
import pytest
from helpers.cli import one_line
from mlflow import MlflowClient

from tsc_marl import algos
from tsc_marl.analysis import compare, summaries
from tsc_marl.analysis.compare import Comparison, Training
from tsc_marl.console import shortened
from tsc_marl.evaluation import significance
from tsc_marl.evaluation.tables import cells, span
from tsc_marl.report import build, overview, sentences
from tsc_marl.report.network_data import REWARD, NetworkResults, SignalSeries, read
from tsc_marl.report.plots import series_styles
from tsc_marl.report.signal_plots import change_maps, credit_panels
from tsc_marl.report.verdict import Outcome, Verdict, VerdictKind, final_delays, overall, speeds, threshold_reached, verdicts
from tsc_marl.tracking.colours import of_algorithms

pytest_plugins = ["helpers.fixtures"]

LINE = "--episodes 12 --algo.epochs 1 --workers 1 --eval-seeds 1 2 --baselines max_pressure --plots True"


def group(name, ends, start=100.0):
    """Trainings of 100 episodes that come down on a straight line to each end."""
    episode = np.arange(2.0, 101, 2)
    return [
        Training(
            "run", name, seed, {"sim.reward": "delay"}, np.array([end, end]), 0.0,
            {"episode": episode, "steps": 120 * episode, "minutes": episode / 60, "delay": np.linspace(start, end, 50)}, {}, {},
        )
        for seed, end in enumerate(ends)
    ]  # fmt: skip


def results_of(comparison, reference=None):
    reference = comparison.reference(reference)
    return NetworkResults(comparison, reference, summaries.summarise(comparison, reference), {})


def town(delays=None, reference=None, **ends):
    """Results on a network where max pressure has a delay of 28 s."""
    delays = {"max_pressure": 28.0} if delays is None else delays
    return results_of(Comparison("town", {name: group(name, values) for name, values in ends.items()}, delays), reference)


FIVE = {"good": (21, 22, 23, 22.5, 21.5), "bad": (35, 36, 37, 36.5, 35.5), "between": (20.6, 22.2, 23.4, 22.6, 21.2)}


@pytest.mark.parametrize(
    ("ends", "reference_ends", "kind", "speed", "end"),
    [
        ("good", "bad", VerdictKind.BETTER, Outcome.BETTER, Outcome.BETTER),
        ("bad", "good", VerdictKind.WORSE, Outcome.WORSE, Outcome.WORSE),
        ("between", "good", VerdictKind.UNDECIDED, Outcome.UNDECIDED, Outcome.UNDECIDED),
    ],
)
def test_verdicts(ends, reference_ends, kind, speed, end):
    results = town(mappo=FIVE[reference_ends], jointq=FIVE[ends])
    assert verdicts(results) == [Verdict(kind, "jointq", "mappo", speed, end)]


def test_the_evidence_has_the_numbers():
    results = town(mappo=FIVE["bad"], jointq=FIVE["good"])
    (verdict,) = verdicts(results)
    text = sentences.evidence(results, verdict)
    for name in ("jointq", "mappo"):
        summary = results.summaries[name]
        assert f"{summary.delay:.1f} s (95 % {span(summary.interval)})" in text
    assert f"{np.median(results.summaries['jointq'].episodes):.0f} episodes" in text
    assert "1.00 (95 % 1.00 .. 1.00, p = 0.0079)" in text


def faster(fast, slow):
    """The first falls to its final delay after 20 episodes, the second along a straight line."""
    trainings = group("jointq", fast)
    for training in trainings:
        training.curve["delay"] = np.where(training.curve["episode"] > 20, training.delay[0], 100.0)
    return results_of(Comparison("town", {"mappo": group("mappo", slow), "jointq": trainings}, {"max_pressure": 45.0}))


def test_speed_and_end_are_criteria_of_their_own():
    (verdict,) = verdicts(faster(FIVE["between"], FIVE["good"]))
    assert (verdict.kind, verdict.speed, verdict.end) == (VerdictKind.BETTER, Outcome.BETTER, Outcome.UNDECIDED)
    (verdict,) = verdicts(faster(FIVE["bad"], FIVE["good"]))
    assert (verdict.kind, verdict.speed, verdict.end) == (VerdictKind.MIXED, Outcome.BETTER, Outcome.WORSE)


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_seeds_to_show_anything(count):
    results = town(mappo=FIVE["bad"][:count], jointq=FIVE["good"][:count])
    (verdict,) = verdicts(results)
    assert verdict == Verdict(VerdictKind.TOO_FEW, "jointq", "mappo")
    text = sentences.evidence(results, verdict)
    assert "nan" not in text
    assert ("95 %" in text) == (count > 1)
    assert verdicts(town(mappo=FIVE["bad"], jointq=FIVE["good"][:1]))[0].kind is VerdictKind.TOO_FEW


def test_the_speed_is_that_to_the_threshold_where_a_training_reached_it():
    some = town(mappo=FIVE["bad"], jointq=(21, 36, 37, 38, 39))
    assert threshold_reached(some, "mappo", "jointq")
    assert np.isfinite(speeds(some, "jointq")[0]).tolist() == [True, False, False, False, False]
    for delays in ({"max_pressure": 9.0}, {}):  # none reached it, none is known
        results = town(delays, mappo=FIVE["bad"], jointq=FIVE["good"])
        assert not threshold_reached(results, "mappo", "jointq")
        (verdict,) = verdicts(results)
        assert (verdict.speed, verdict.end) == (Outcome.BETTER, Outcome.BETTER)
        for name in ("jointq", "mappo"):
            mean = np.mean(speeds(results, name))
            assert mean == pytest.approx(results.summaries[name].training_delay)


def test_where_training_had_another_demand_there_is_no_threshold():
    groups = {name: group(name, FIVE[ends]) for name, ends in (("mappo", "bad"), ("jointq", "good"))}
    for scale, threshold in (("1.0", 28.0), ("0.7", None)):
        for training in (training for trainings in groups.values() for training in trainings):
            training.settings.update({"demand.scale": scale, "eval_demand.scale": "1.0"})
        comparison = Comparison("town", groups, {"max_pressure": 28.0})
        assert comparison.threshold == threshold
        assert bool(summaries.summarise(comparison, "mappo")["jointq"].episodes) == (threshold is not None)


def test_jams_that_decide_stand_in_the_evidence():
    groups = {name: group(name, FIVE[ends]) for name, ends in (("mappo", "good"), ("jointq", "between"))}
    jammed = [dataclasses.replace(training, delay=np.array([20.0] * 9 + [400.0]), gridlock=0.1) for training in groups["jointq"]]
    results = results_of(Comparison("town", groups | {"jointq": jammed}, {}))
    (verdict,) = verdicts(results)
    assert verdict.end is Outcome.WORSE
    text = sentences.evidence(results, verdict)
    assert "20.0 s" in text
    assert "58.0 s" in text
    assert "10%" in text


@pytest.mark.parametrize("speed", Outcome)
@pytest.mark.parametrize("end", Outcome)
def test_every_verdict_has_a_headline_of_its_own(speed, end):
    results = town(mappo=FIVE["bad"], jointq=FIVE["good"])
    texts = {
        (a, b): sentences.headline(results, Verdict(overall(a, b), "jointq", "mappo", a, b)) for a in Outcome for b in Outcome
    }
    text = texts.pop((speed, end))
    assert text not in texts.values()
    assert all(name in text for name in ("town", "jointq", "mappo"))


def test_caveats():
    def caveats(**commits):
        groups = {
            name: [
                dataclasses.replace(training, tags={"git_commit": commit})
                for training, commit in zip(group(name, FIVE["good"]), letters, strict=False)
            ]
            for name, letters in commits.items()
        }
        text = summaries.caveats(Comparison("town", groups, {}))
        return len(text.split("; ")), text

    assert caveats(mappo="a" * 5, jointq="b" * 5)[0] == 1  # few trainings
    number, text = caveats(mappo="aaa", jointq="abb", qmix="b")
    assert number > 2  # a single training, few trainings, two commits in one group
    assert text.endswith(": jointq")


def judged(*networks):
    return [(results, verdicts(results)) for results in networks]


def test_the_first_screen_has_one_number_over_all_networks_and_what_is_not_shown():
    def on(name, **ends):
        return dataclasses.replace(town(**ends), comparison=dataclasses.replace(town(**ends).comparison, network=name))

    half = {"mappo": [value * 2 for value in FIVE["good"]], "jointq": FIVE["good"]}  # 0.5 there, 0.98 on the other
    near = {"mappo": FIVE["good"], "mappo_ind": FIVE["good"], "jointq": [value * 0.98 for value in FIVE["between"]]}
    both = judged(on("town", **half), on("city", **near))
    assert both[1][1][0].end is Outcome.UNDECIDED
    ratio = np.sqrt(0.5 * both[1][0].summaries["jointq"].delay / both[1][0].summaries["mappo"].delay)
    answer = overview.answer(both)
    assert answer.number == f"{1 - ratio:.0%} less delay".replace("%", "\N{NO-BREAK SPACE}%")
    assert answer.sentence == f"jointq ends with {answer.number} than mappo on average over town and city."
    assert answer.support == "The trainings show the difference on town."
    assert answer.tests.endswith("After Holm's correction for 2 tests: 0.016 on town and 0.55 on city.")
    assert [line.split(" end ")[0] for line in answer.not_shown] == [
        "that jointq and mappo", "that jointq and mappo_ind (same rewards, no credit)",
    ]  # fmt: skip
    pairs = [final_delays(both[1][0], "jointq", name) for name in ("mappo", "mappo_ind")]
    least = [significance.minimum_detectable_difference(*pair) for pair in pairs]
    assert all(
        f" {value:.1f} s would be seen in 80% of such" in line for line, value in zip(answer.not_shown, least, strict=True)
    ), answer
    (worse,) = judged(town(mappo=FIVE["good"], jointq=FIVE["bad"]))
    assert "more delay than mappo on town." in overview.answer([worse]).sentence
    (few,) = judged(town(mappo=FIVE["bad"][:2], jointq=FIVE["good"][:2]))
    assert overview.answer([few]).support == "The trainings are too few to show it."
    assert "no comparison" in overview.answer(judged(town(mappo=FIVE["bad"]))).sentence


def test_the_first_figure_ranks_the_algorithms_of_the_question_on_one_axis():
    others = {name: FIVE["good"] for name in ("iql", "qmix", "vdn")}
    results = town(mappo=(35,) * 5, jointq=(21,) * 5, ippo=(14,) * 5, mappo_ind=(300,) * 5, **others)
    first = overview.shown_first(results, verdicts(results))
    assert first == ["ippo", "jointq", "mappo", "mappo_ind"]
    of = overview.figure([(results, first)], series_styles([results]))
    rows = of.networks["town"]
    assert [(row.name, row.change) for row in rows] == [
        ("ippo", "−50\N{NO-BREAK SPACE}%"), ("jointq", "−25\N{NO-BREAK SPACE}%"), ("max_pressure", ""),
        ("mappo", "+25\N{NO-BREAK SPACE}%"), ("mappo_ind", "+971\N{NO-BREAK SPACE}%"),
    ]  # fmt: skip
    places = [row.at for row in rows]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1])
    assert places[2] == of.zero
    assert places[4] == 100  # beyond the axis
    two = town(iql=FIVE["good"], qmix=FIVE["bad"])
    assert overview.shown_first(two, verdicts(two)) == ["iql", "qmix"]


def test_without_mappo_the_reference_does_not_depend_on_the_order():
    for names in (("jointq", "iql", "qmix"), ("qmix", "iql", "jointq")):
        assert Comparison("town", {name: group(name, (20,)) for name in names}, {}).reference() == "iql"
    assert Comparison("town", {name: group(name, (20,)) for name in ("iql", "mappo_ind")}, {}).reference() == "mappo_ind"


def pairs(results):
    return [(verdict.group, verdict.reference) for verdict in verdicts(results)]


def test_the_pairs_that_are_compared():
    every = town(mappo=FIVE["bad"], mappo_ind=FIVE["good"], jointq=FIVE["between"], iql=FIVE["good"])
    assert pairs(every) == [("jointq", "mappo"), ("jointq", "mappo_ind")]
    assert pairs(town(reference="jointq", mappo=FIVE["bad"], jointq=FIVE["good"])) == [("mappo", "jointq")]
    alone = town(mappo=FIVE["bad"])
    (verdict,) = verdicts(alone)
    assert verdict == Verdict(VerdictKind.SINGLE, "mappo")
    assert "mappo" in sentences.headline(alone, verdict)
    assert "28.0 s" in sentences.evidence(alone, verdict)


def test_one_jam_does_not_make_the_other_maps_pale():
    names = ("mappo", "jointq", "ippo", "vdn")
    comparison = Comparison("cross", {name: group(name, FIVE["good"]) for name in names}, {})
    rewards = dict(zip(names, ({"A0": np.array([value])} for value in (-50.0, -40.0, -35.0, -9000.0)), strict=True))
    agents = {name: SignalSeries(np.array([2.0]), {REWARD: reward}) for name, reward in rewards.items()}
    maps = change_maps(NetworkResults(comparison, "mappo", summaries.summarise(comparison, "mappo"), agents))
    assert list(maps) == ["jointq", "ippo", "vdn"]
    assert {panel.figure.axes[1].get_xlim() for panel in maps.values()} == {(-15, 15)}  # the scales
    assert maps["jointq"].hints == {"signal-0": "A0, reward [veh·s per episode]: jointq -40, mappo -50, change +10 (+20%)"}


def test_a_colour_each_and_the_same_everywhere():
    def styles(*names):
        named = {name: [dataclasses.replace(of, algorithm=name.split()[0]) for of in group(name, (20,))] for name in names}
        return series_styles([results_of(Comparison("town", named, {}))])

    one, other = styles("mappo", "jointq"), styles("qmix", "iql", "jointq", "mappo", "jointq (kappa 0.5)")
    assert all(one[name] == other[name] for name in one)
    assert {name: style["color"] for name, style in styles(*algos.available()).items()} == of_algorithms()
    assert other["jointq (kappa 0.5)"]["color"] == other["jointq"]["color"]
    assert other["jointq (kappa 0.5)"]["linestyle"] != other["jointq"]["linestyle"]
    assert len(set(of_algorithms().values())) == len(algos.available())


@pytest.fixture(scope="module")
def home(new_home, short_networks):
    home = new_home()
    assert home.main(f"train --network {short_networks[1]} {LINE} --algos mappo jointq --seeds 0 1") == 0
    assert home.main("report --net short_grid2x2") == 0
    return home


@pytest.fixture(scope="module")
def page(home):
    return (home.folder / "report" / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def results(home, monkeypatch):
    monkeypatch.setenv("TSC_MARL_HOME", str(home.folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return read(compare.load("short_grid2x2"), None)


def test_the_page_has_the_table_the_plots_and_how_it_was_made(page, results, short_networks):
    body = page[page.index("<body>") :]
    for row in summaries.rows(results.comparison, "mappo"):
        for cell in cells(summaries.columns("mappo"), row):
            assert f"<td>{cell}</td>" in body
    assert set(re.findall(r'id="short_grid2x2-(\w+)"', body)) == {"curves", "final", "map", "credit"}
    for training in results.trainings:
        assert training.run_id in body
        assert f"{1_000_000 * (training.seed + 1)} .. {1_000_000 * (training.seed + 1) + 11}" in body
    assert f"python -m tsc_marl train --network {short_networks[1]} {LINE} --algos mappo jointq --seeds 0 1" in body
    assert results.first.tags["git_commit"] in body
    assert "eval_seeds (1, 2)" in body
    assert "<script" not in page
    assert len(page.encode()) < 2_000_000


def test_the_page_has_the_pictures_of_signals_that_the_training_drew(page, results):
    assert results.pictured == "max_pressure, mappo s0, mappo s1, jointq s0, jointq s1"
    found = dict(re.findall(r'src="data:image/png;base64,([^"]+)" alt="([^"]+)"', page))
    assert list(found.values()) == list(build.PICTURE_TITLES.values())
    for content, name in zip(found, build.PICTURE_TITLES, strict=True):
        assert base64.b64decode(content) == results.pictures[name]


def test_it_needs_nothing_from_elsewhere(page):
    assert not re.findall(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["']?(?!["']?data:)""", page)
    assert "@import" not in page
    assert "url(http" not in page


def test_signals_may_be_called_by_numbers(results):
    """They are names, not places on an axis."""
    (mappo, jointq) = (results.signals[name] for name in ("mappo", "jointq"))
    called = dict(
        zip(jointq.final("own_effect"), ["256201389", "32319828", "26110729", "cluster_1098574052_247379905"], strict=True)
    )

    def rename(agents):
        metrics = {kind: {called[name]: series for name, series in of.items()} for kind, of in agents.metrics.items()}
        return dataclasses.replace(agents, metrics=metrics)

    panels = credit_panels(dataclasses.replace(results, signals={"mappo": rename(mappo), "jointq": rename(jointq)}), ["jointq"])
    for panel in panels:
        labels = [label.get_text() for label in panel.figure.axes[0].get_yticklabels()]
        assert sorted(labels) == sorted(shortened(name, 16) for name in called.values())
        assert all(len(label) <= 16 for label in labels)


def test_local_rewards_are_those_of_the_end_of_training(results, home):
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    tables = [pd.read_csv(client.download_artifacts(t.run_id, "signals.csv")) for t in results.groups["jointq"]]
    expected = [table[table.signal == "A0"].reward.iloc[-1] for table in tables]
    assert results.signals["jointq"].final("reward")["A0"] == pytest.approx(np.mean(expected))
    assert "effect_on_others" in results.signals["jointq"].metrics
    assert "effect_on_others" not in results.signals["mappo"].metrics


def test_the_plots_for_a_paper(home):
    files = {path.name for path in (home.folder / "report").iterdir()}
    names = {f"short_grid2x2_{name}.{kind}" for name in ("learning_curves", "final_delay") for kind in ("png", "pdf")}
    assert files == names | {"report.html"}


def test_it_is_a_run_with_the_verdict_as_its_description(home, results):
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("short_grid2x2").experiment_id], "tags.kind = 'report'")
    assert run.info.status == "FINISHED"
    (verdict,) = verdicts(results)
    assert verdict.kind is VerdictKind.TOO_FEW
    assert run.data.tags["mlflow.note.content"].startswith(f"**{sentences.headline(results, verdict)}**")
    assert "report.html" in {file.path for file in client.list_artifacts(run.info.run_id)}


def test_what_cannot_be_reported(home, capsys, tmp_path):
    assert home.main("report --net cross") == 2
    assert "no finished run on cross; train one: make train NET=cross" in one_line(capsys.readouterr().err)
    assert home.main("report --net short_grid2x2 --reference qmix") == 2
    assert "no finished run of the reference qmix on short_grid2x2; choose one of" in one_line(capsys.readouterr().err)
    assert home.main("report --net short_grid2x2 --out /dev/null/report.html") == 2
    assert "report /dev/null/report.html cannot be written" in one_line(capsys.readouterr().err)
    assert home.main("report --net short_grid2x2 --out report") == 2
    assert "out must name an .html file; got report" in one_line(capsys.readouterr().err)
    assert home.main("report --net short_grid2x2 short_grid2x2") == 2
    assert "network needs at least one entry and none twice" in one_line(capsys.readouterr().err)


def test_one_training_is_reported_without_intervals(home, results, tmp_path):
    out = tmp_path / "one.html"
    assert home.main(["report", "--net", "short_grid2x2", "--where", "tags.seed = '1'", "--out", str(out)]) == 0
    one = read(compare.load("short_grid2x2", compare.RunFilter("tags.seed = '1'")), None)
    (verdict,) = verdicts(one)
    assert verdict.kind is VerdictKind.TOO_FEW
    assert sentences.headline(one, verdict) in out.read_text(encoding="utf-8")
    assert summaries.caveats(one.comparison) in out.read_text(encoding="utf-8")


def test_a_run_whose_artifacts_are_gone(home, results, capsys, tmp_path):
    (folder,) = (home.folder / "mlartifacts").glob(f"*/{results.first.run_id}")
    shutil.move(folder, tmp_path / "kept")
    try:
        for verb in ("report", "compare"):
            assert home.main(f"{verb} --net short_grid2x2") == 0
            text = capsys.readouterr().out
            assert f"run {results.first.run_id} (jointq, seed 0) is damaged and left out: " in text
            assert f"run {results.first.run_id} has no evaluation.json" in text
            assert "or delete it in MLflow (make ui)" in text
    finally:
        shutil.move(tmp_path / "kept", folder)


@pytest.mark.sumo
def test_what_was_downloaded_is_removed_at_the_end(home, short_networks, tmp_path):
    code, out, err = home.run(f"compare --net {short_networks[1]}", TMPDIR=str(tmp_path))
    assert code == 0, err
    assert "mappo" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("revision", "advice"),
    [("ffffffffffff", "a newer MLflow than 3"), pytest.param("451aebb31d03", "mlflow db upgrade sqlite", marks=pytest.mark.sumo)],
)
def test_a_store_of_another_mlflow(home, short_networks, revision, advice):
    """In a process of its own: MLflow looks at a store's version once."""
    path = home.folder / "mlflow.db"
    with sqlite3.connect(path) as store:
        (known,) = store.execute("SELECT version_num FROM alembic_version").fetchone()
        store.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    try:
        code, _, err = home.run(f"report --net {short_networks[1]}")
    finally:
        with sqlite3.connect(path) as store:
            store.execute("UPDATE alembic_version SET version_num = ?", (known,))
    assert code == 2
    assert f"tracking store sqlite:///{path} cannot be used: " in one_line(err)
    assert advice in err
