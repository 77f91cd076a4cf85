# pyright: reportAttributeAccessIssue=false
# Attributes of a torch module are those of its parts, which pyright does not know.
"""One training over several networks: shared weights, everything else of each network its own, the same numbers after a stop."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from helpers.cli import one_line
from helpers.fixtures import WINDOWS_S
from helpers.games import fitting

from tsc_marl import algos
from tsc_marl.config import parse
from tsc_marl.errors import UserError
from tsc_marl.nn.normalisation import ValueNorm
from tsc_marl.rollout.pool import Pool
from tsc_marl.sim import fingerprint, scenario, seeds
from tsc_marl.sim.scenario import stored_name
from tsc_marl.tracking import checkpoint, tensor_file
from tsc_marl.tracking.run_folder import TrainingFolder
from tsc_marl.training.iteration import newest_delays, train_iteration
from tsc_marl.training.learner import learners
from tsc_marl.training.run import TrainingRun
from tsc_marl.types import Batch

pytest_plugins = ["helpers.fixtures"]

SMALL = {"epochs": 2, "num_minibatches": 2, "gradient_steps": 5, "batch_size": 8, "rollout_length": 6}
TOGETHER = ("ippo", "mappo", "jointq", "iql", "mat_dec", "mat", "ia2c", "vdn", "mappo_ind", "jointq_doc")
"""Algorithms without a weight of the network's size; `sharing full` is set where it is not the default."""


@pytest.fixture(scope="module")
def networks(short_networks):
    return short_networks


@pytest.fixture(scope="module")
def specs(networks):
    tasks = parse(["--network", *networks, "--sim.observation", "movements", "--algos", "ippo"]).tasks()
    with Pool(2) as pool:
        return pool.read_specs(tasks)


def settings(networks, name, *options):
    own = {key: str(value) for key, value in fitting(name, sharing="full", **SMALL).items()}
    words = ["--network", *networks, "--sim.observation", "movements", "--algos", name, "--episodes", "4", *options]
    (config,) = parse([*words, *(word for key, value in own.items() for word in (f"--algo.{key}", value))]).runs
    return config


def new_run(networks, specs, name, folder, *options):
    return TrainingRun(settings(networks, name, *options), specs[0], TrainingFolder(folder), specs[1:])


def state(run):
    """All that a training knows, but for wall time."""
    weights = {
        (network, key): value.clone()
        for network, learner in run.learners.items()
        for key, value in learner.algorithm.state_dict().items()
    }
    history = [{key: value for key, value in row.items() if key != "minutes"} for row in run.history]
    return weights, history


def assert_same(one, other):
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    assert all(torch.equal(one[0][key], other[0][key]) for key in one[0])


def test_each_round_goes_through_all_networks_in_an_order_of_its_own():
    order = [seeds.turn(3, n, 5) for n in range(100)]
    rounds = [tuple(order[i : i + 5]) for i in range(0, 100, 5)]
    assert all(sorted(one) == [0, 1, 2, 3, 4] for one in rounds)
    assert len(set(rounds)) > 10
    assert order != [seeds.turn(4, n, 5) for n in range(100)]
    assert {seeds.turn(3, n, 1) for n in range(9)} == {0}


def played(algorithm, seed, decisions=12):
    """A batch of made observations, with actions of the algorithm."""
    spec, rng = algorithm.spec, torch.Generator().manual_seed(seed)
    obs = torch.rand(decisions + 1, 2, spec.n_agents, spec.obs_dim, generator=rng)
    avail = spec.movements.phase_real.expand(decisions + 1, 2, -1, -1)
    acted = [algorithm.act(o, a, None, rng)[:2] for o, a in zip(obs[:-1], avail[:-1], strict=True)]
    extras = {key: torch.stack([extra[key] for _, extra in acted]).detach() for key in acted[0][1]}
    reward = -torch.rand(decisions, 2, spec.n_agents, generator=rng)
    end = (torch.arange(decisions) == decisions - 1)[:, None].expand(-1, 2)
    state = torch.zeros(decisions + 1, 2, spec.state_dim)
    return Batch(obs, avail, state, torch.stack([action for action, _ in acted]), reward, end & False, end, extras)


@pytest.mark.parametrize("name", ["ippo", "mappo", "jointq"])
def test_steps_of_several_networks_are_steps_on_all_their_rows(specs, name):
    kind = algos.find(name)
    config = kind.Config(epochs=1, num_minibatches=1, adv_norm="none", lr=1e-2, value_norm_decay=1.0)
    if name == "jointq":
        config = replace(config, effects_replay=0)  # kept rows are drawn for each network

    def new(count):
        torch.manual_seed(1)
        return [one.algorithm for one in learners(name, config, [specs[1]] * count)]

    (alone,), (one, other) = new(1), new(2)
    batches = [played(alone, seed) for seed in (1, 2)]
    scale = {"mean_sum": torch.tensor(0.0), "square_sum": torch.tensor(1.0), "weight": torch.tensor(1.0)}
    for norm in (part for algorithm in (alone, one, other) for part in algorithm.modules() if isinstance(part, ValueNorm)):
        same = {key: value.expand(getattr(norm, key).shape) for key, value in scale.items()}
        norm.load_state_dict(same)  # and stays, as if all rewards had one scale
    alone.update(Batch.join(batches), 0.0)
    kind.update_together([(one, batches[0]), (other, batches[1])], 0.0)
    for key, weight in alone.named_parameters():
        if key.removeprefix("online_") in ("actor.phase_head.bias", "effects.net.phase_head.bias", "effects.head.bias"):
            continue  # it moves all phases alike: its gradient is rounding alone
        torch.testing.assert_close(dict(one.named_parameters())[key], weight, rtol=1e-3, atol=1e-5)


def test_sizes_of_networks_come_in_the_order_of_the_tasks(specs):
    assert [(spec.network, spec.n_agents) for spec in specs] == [("short_cross", 1), ("short_grid2x2", 4)]


@pytest.mark.parametrize("name", TOGETHER)
def test_weights_and_optimisers_are_one_and_normalisers_are_apart(networks, specs, name, tmp_path):
    run = new_run(networks, specs, name, tmp_path)
    one, other = (learner.algorithm for learner in run.learners.values())
    pairs = [dict(algorithm.named_parameters(remove_duplicate=False)) for algorithm in (one, other)]
    assert pairs[0].keys() == pairs[1].keys()
    assert all(pairs[0][key] is pairs[1][key] for key in pairs[0])
    optimisers = [
        {key: value for key, value in vars(algorithm).items() if isinstance(value, torch.optim.Optimizer)}
        for algorithm in (one, other)
    ]
    assert optimisers[0]
    assert all(optimisers[1][key] is value for key, value in optimisers[0].items())
    optimised = {id(weight) for group in next(iter(optimisers[0].values())).param_groups for weight in group["params"]}
    assert optimised <= {id(weight) for weight in pairs[1].values()}
    assert one.returns.mean_sum is not other.returns.mean_sum
    one.returns.update(torch.full((3, 1), 7.0))
    assert float(other.returns.weight) == 0
    acting = one.policy_state().keys() - pairs[0].keys()
    assert all(one.get_buffer(key) is other.get_buffer(key) for key in acting)


@pytest.mark.parametrize("name", ["ippo", "mappo", "jointq", "iql", "mat_dec"])
def test_a_training_that_goes_on_from_its_checkpoint_ends_with_the_same_weights(networks, specs, name, tmp_path):
    with Pool(2, concurrent_episodes=4) as pool:
        whole = new_run(networks, specs, name, tmp_path / "whole")
        before = state(whole)[0]
        for _ in range(2):
            train_iteration(pool, whole)
        first = new_run(networks, specs, name, tmp_path / "stopped")
        train_iteration(pool, first)
        first.stage_checkpoint()
        first.save()
        torch.manual_seed(99)
        again = new_run(networks, specs, name, tmp_path / "stopped")
        assert_same(state(again), state(first))
        train_iteration(pool, again)
    assert_same(state(again), state(whole))
    assert any(not torch.equal(before[key], value) for key, value in state(whole)[0].items())
    seen = [learner.algorithm.returns.weight for learner in whole.learners.values()]
    assert all(weight > 0 for weight in seen)
    means = [float(learner.algorithm.returns.mean) for learner in whole.learners.values()]
    assert means[0] != means[1]


def test_an_iteration_holds_both_networks_and_counts_every_decision(networks, specs, tmp_path):
    run = new_run(networks, specs, "ippo", tmp_path)
    with Pool(2, concurrent_episodes=4) as pool:
        metrics = train_iteration(pool, run)
    decisions = sum(window_s // 5 for window_s in WINDOWS_S.values())
    assert [(row["episode"], row["steps"]) for row in run.history] == [(2, decisions), (4, 2 * decisions)]
    row = run.history[-1]
    delays = [row["delay/short_cross"], row["delay/short_grid2x2"]]
    assert row["delay"] == pytest.approx(sum(delays) / 2)
    assert list(newest_delays(run).values()) == delays
    assert [{key: of_group[key] for key in row} for of_group in metrics] == run.history
    assert not [key for key in metrics[0] if key.startswith("agent/")]


def test_the_newest_delay_of_a_network_counts_until_its_next_episode(networks, specs, tmp_path):
    run = new_run(networks, specs, "ippo", tmp_path, "--episodes-per-update", "1")
    with Pool(1, concurrent_episodes=2) as pool:
        for _ in range(2):
            train_iteration(pool, run)
    first, second, third, _ = run.history
    played = [next(key for key in row if key.startswith("delay/")) for row in run.history[:3]]
    assert played[0] != played[1]
    assert first["delay"] == first[played[0]]
    assert second["delay"] == pytest.approx((first[played[0]] + second[played[1]]) / 2)
    assert third["delay"] == pytest.approx(
        (third[played[2]] + (second if played[2] == played[0] else first)[played[1] if played[2] == played[0] else played[0]]) / 2
    )


def test_networks_of_one_iteration_divide_the_gradient_steps(networks, specs, tmp_path):
    run = new_run(networks, specs, "iql", tmp_path, "--episodes", "1")
    with Pool(2) as pool:
        train_iteration(pool, run)
    done = [int(learner.algorithm.updates_done) for learner in run.learners.values()]
    assert sorted(done) == [2, 3]
    lengths = [len(learner.replay.state()["action"]) for learner in run.learners.values()]
    assert lengths == [window_s // 5 for window_s in WINDOWS_S.values()]


def test_a_checkpoint_has_the_weights_once_and_serves_each_network(networks, specs, tmp_path):
    run = new_run(networks, specs, "jointq", tmp_path)
    with Pool(2, concurrent_episodes=4) as pool:
        train_iteration(pool, run)
    run.stage_checkpoint()
    run.save()
    path = run.folder.checkpoint
    saved = checkpoint.load(path)
    assert saved.networks == ["short_cross", "short_grid2x2"]
    buffers = tensor_file.load(path)["others"]["short_grid2x2"]["buffers"]
    assert set(buffers) == {"evidence"} | {
        f"{norm}.{x}" for norm in ("returns", "residual") for x in ("mean_sum", "square_sum", "weight")
    }
    for name, spec in zip(saved.networks, specs, strict=True):
        policy = saved.policy(name)
        assert policy.signals.keys() == set(spec.names)
        policy.algorithm(spec)
    assert saved.policy("grid4x4").portable
    checkpoint.save(saved.weights_only(), tmp_path / "small.safetensors")
    small = checkpoint.load(tmp_path / "small.safetensors")
    assert small.origin == saved.origin == "4 episodes with jointq on short_cross, short_grid2x2"
    assert all(torch.equal(small.training["weights"][key], value) for key, value in saved.training["weights"].items())
    with pytest.raises(UserError, match="has networks short_cross short_grid2x2, this run short_cross; remove it"):
        new_run(networks[:1], specs[:1], "jointq", tmp_path)


def test_a_changed_file_of_any_network_is_refused(networks, specs, tmp_path):
    run = new_run(networks, specs, "ippo", tmp_path)
    run.save()
    path = scenario.load("short_grid2x2").routes[0]
    before = path.read_bytes()
    path.write_bytes(before.replace(b"</routes>", b'<vehicle id="new" depart="9"/></routes>'))
    try:
        with pytest.raises(UserError, match="with other files of short_grid2x2: demand "):
            new_run(networks, specs, "ippo", tmp_path)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("name", ["qmix", "maddpg"])
@pytest.mark.parametrize("chosen", [[0, 1], [1, 1]])
def test_weights_of_the_size_of_a_network_are_refused(networks, specs, name, chosen):
    config = settings(networks, name)
    with pytest.raises(UserError, match=f"{name} cannot learn on several networks together: its weights .* have the size of one"):
        learners(name, config.algo, [specs[i] for i in chosen])


BOTH = "train --network cross grid2x2 --sim.observation movements --algos"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "train --network cross grid2x2 --sim.observation lanes",
            "a policy of 2 networks needs an observation that fits any network",
        ),
        (f"{BOTH} ippo --algo.sharing none", "needs algo.sharing full or full_no_id; ippo has none"),
        (f"{BOTH} happo", "needs algo.sharing full or full_no_id; happo has none"),
        (f"{BOTH} ippo --algo.popart True", "has a value normaliser for each, so algo.popart must be False; ippo has True"),
        (f"{BOTH} ippo --episodes 3 --episodes-per-update 4", "episodes 3 on each of 2 networks is not a multiple of"),
        ("train --network cross cross", "network needs at least one entry and none twice; got cross cross"),
        ("train --network", "network needs at least one entry"),
        ("train --network cross gird2x2 --algos ippo", "network gird2x2 not found; did you mean grid2x2?"),
        ("train --network cross+gird2x2 --algos ippo", "network gird2x2 not found; did you mean grid2x2?"),
        ("compare --network cross+gird2x2", "network gird2x2 not found; did you mean grid2x2?"),
        ("compare --network grid2x2+cross", "no finished run on cross+grid2x2; train one: make train NET=cross+grid2x2"),
    ],
)
def test_mistakes_are_one_line(home, capsys, line, message):
    assert home.main(line) == 2
    assert message in one_line(capsys.readouterr().err)
    assert not (home.folder / "runs").exists()


def test_the_order_of_networks_changes_neither_the_stored_name_nor_the_tags():
    one, other = (
        parse(["--network", "cross+grid4x4", "--algos", "ippo", "--sim.observation", "movements"]),
        parse(["--network", "grid4x4", "cross", "--algos", "ippo", "--sim.observation", "movements"]),
    )
    assert (one.network, other.network) == (("cross", "grid4x4"), ("grid4x4", "cross"))
    assert one.network_name == other.network_name == stored_name("grid4x4+cross") == "cross+grid4x4"
    tags = [fingerprint.tags(*(task.scenario for task in config.tasks())) for config in (one, other)]
    assert tags[0] == tags[1]
    alone = [fingerprint.tags(task.scenario) for task in one.tasks()]
    assert tags[0]["scenario.network"] not in [own["scenario.network"] for own in alone]
    assert tags[0]["scenario.additional"] == alone[0]["scenario.additional"] == "none"


def test_one_network_keeps_the_names_of_its_settings():
    alone, both = (
        parse(["--network", *names, "--algos", "ippo", "--sim.observation", "movements"])
        for names in (["cross"], ["cross", "grid2x2"])
    )
    assert alone.network_name == alone.runs[0].as_dict()["network"] == "cross"
    assert both.runs[0].as_dict()["network"] == ("cross", "grid2x2")


LINE = "--sim.observation movements --algos jointq --episodes 2 --baselines max_pressure random --workers 2 --algo.epochs 2"


def runs_of(home, kind):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    return client.search_runs([e.experiment_id for e in client.search_experiments()], f"tags.kind = '{kind}'")


def test_the_store_has_one_training_and_every_verb_reads_it(home, new_home, networks, capsys, tmp_path):
    both = "short_cross+short_grid2x2"
    assert home.main(["train", "--network", *networks, *LINE.split(), "--eval-seeds", "1", "2"]) == 0
    said = capsys.readouterr().out
    assert "short_cross, timing sumo-rl: mean over 2 held-out seeds" in said
    assert f"make compare NET={both}" in said
    (run,), (parent,) = runs_of(home, "training"), runs_of(home, "comparison")
    assert (run.data.tags["network"], run.data.tags["networks"], parent.data.tags["network"]) == (both, "2", both)
    curves = pd.read_csv(next(home.training.glob("*/curves.csv")))
    assert {"delay/short_cross", "delay/short_grid2x2"} <= set(curves.columns)
    folder = home.training
    paths = {name: folder / f"evaluation{name}.json" for name in ("", "_short_cross", "_short_grid2x2")}
    files = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items()}
    assert [content["network"] for content in files.values()] == [both, "short_cross", "short_grid2x2"]
    for policy in ("jointq", "max_pressure", "random"):
        for i, row in enumerate(files[""]["results"][policy]):
            parts = [files[name]["results"][policy][i] for name in ("_short_cross", "_short_grid2x2")]
            assert row["seed"] == parts[0]["seed"] == parts[1]["seed"] == i + 1
            assert row["delay"] == pytest.approx((parts[0]["delay"] + parts[1]["delay"]) / 2)
    assert home.main(["compare", "--network", "+".join(networks)]) == 0
    capsys.readouterr()
    assert home.main(["compare", "--network", both]) == 0
    table = capsys.readouterr().out.replace(run.info.run_id, "")
    assert f"{both}: finished trainings" in table
    assert home.main(["report", "--network", both, "--out", str(tmp_path / "report.html")]) == 0
    assert home.main(["compare", "--network", networks[0]]) == 2
    assert "no finished run on short_cross;" in one_line(capsys.readouterr().err)
    assert home.main(["export", "--network", both, "--out", str(tmp_path / "out")]) == 0
    assert "4 training episodes" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    other = new_home()
    assert other.main(["import", "--folder", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert other.main(["compare", "--network", both]) == 0
    (imported,) = runs_of(other, "training")
    assert capsys.readouterr().out.replace(imported.info.run_id, "") == table
    saved = str(next(folder.glob("*/checkpoint.pt")))
    evaluation = ["evaluate", "--network", networks[1], "--policy", saved, "--baseline", saved, "--eval-seeds", "1", "2"]
    assert home.main([*evaluation, "--out", str(tmp_path / "measured"), "--workers", "2"]) == 0
    measured = json.loads((tmp_path / "measured" / "short_grid2x2" / "metrics.json").read_text(encoding="utf-8"))
    (rows,) = measured["results"].values()
    assert [row["delay"] for row in rows] == [row["delay"] for row in files["_short_grid2x2"]["results"]["jointq"]]


def test_no_evaluation_seeds_no_evaluation(home, networks, capsys):
    assert home.main(["train", "--network", *networks, *LINE.split(), "--eval-seeds"]) == 0
    assert "no evaluation seeds; the policy of jointq: " in capsys.readouterr().out
    (run,) = runs_of(home, "training")
    assert run.info.status == "FINISHED"
    assert "eval_delay_s" not in run.data.metrics
    assert not list(home.training.glob("**/evaluation*"))
    assert (home.training / "finished").exists()
    assert next(home.training.glob("*/checkpoint.pt")).is_file()
    assert next(home.training.glob("*/learning_curve.png")).is_file()


def test_a_study_trains_on_networks_apart_and_together(networks):
    from tsc_marl.training import study

    options = ("--sim.observation", "movements", "--episodes", "2")
    cells = study.trials([*networks, "+".join(networks)], ["ippo"], [0], options)
    assert [cell.net for cell in cells] == ["short_cross", "short_grid2x2", "short_cross+short_grid2x2"]
    assert [cell.config.network for cell in cells][2] == ("short_cross", "short_grid2x2")
    assert len({cell.digest for cell in cells}) == 3


@pytest.mark.parametrize("name", [pytest.param("jointq", marks=pytest.mark.sumo), pytest.param("iql", marks=pytest.mark.slow)])
def test_a_killed_training_goes_on_to_the_same_weights(home, new_home, networks, name):
    line = (
        f"train --network {' '.join(networks)} --sim.observation movements --algos {name} --episodes 6 --eval-seeds 1 --baselines"
    )
    line += " --checkpoint-every 1 --workers 2" + (" --algo.gradient_steps 20" if name == "iql" else " --algo.epochs 2")
    whole = new_home()
    assert whole.main(line) == 0
    process = home.start(line)
    home.wait_for_checkpoint()
    process.kill()
    process.communicate()
    assert 0 < home.checkpoint()["episode"] < 12
    assert home.main(["train", "--resume", home.training.name, "--workers", "1"]) == 0
    one, other = home.checkpoint(), whole.checkpoint()
    assert one["episode"] == 12
    assert all(torch.equal(value, other["training"]["weights"][key]) for key, value in one["training"]["weights"].items())
    for key, value in one["others"]["short_grid2x2"]["buffers"].items():
        assert torch.equal(value, other["others"]["short_grid2x2"]["buffers"][key])
    assert [row["delay"] for row in one["history"]] == [row["delay"] for row in other["history"]]
