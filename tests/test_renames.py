"""Files of earlier versions: checkpoints, runs and exports in old names load as today's."""

import dataclasses
import functools
import json
from pathlib import Path

import pytest
import torch

from tsc_marl import algos
from tsc_marl.config import COMMAND_ONLY, parse
from tsc_marl.errors import UserError
from tsc_marl.report.archive_file import SUFFIX, read_file
from tsc_marl.tracking import checkpoint, renames
from tsc_marl.tracking.run_folder import RunFolder, TrainingFolder
from tsc_marl.training import settings
from tsc_marl.training.replay import Replay
from tsc_marl.training.run import TrainingRun
from tsc_marl.types import Batch, Spec

SPEC = Spec("cross", ("a", "b"), 2, 3, 4, ((1,), (0,)))
EXPORTS = Path(__file__).parents[1] / "docs" / "trainings"


def inverse(names):
    return {today: old for old, today in names.items()}


def old_weights(tensors):
    return {
        next((old + key.removeprefix(today) for old, today in renames.WEIGHTS.items() if key.startswith(today)), key): tensor
        for key, tensor in tensors.items()
    }


def in_format_2(saved):
    """Return a checkpoint as version 2 of the file had it."""
    content = {"format": 2} | renames.renamed(vars(saved), inverse(renames.EVALUATION_PARTS))
    content["config"] = renames.renamed(saved.config, inverse(renames.ALGORITHM_SETTINGS))
    if "adv" in content["config"]:
        content["config"]["adv"] = inverse(renames.ADVANTAGES).get(content["config"]["adv"], content["config"]["adv"])
    content["training"] = saved.training | {"weights": old_weights(saved.training["weights"])}
    content["replay"] = None  # on-policy algorithms kept no rows
    if saved.replay is not None and "extras" in saved.replay:
        content["replay"] = saved.replay | {"extras": renames.renamed(saved.replay["extras"], inverse(renames.EXTRAS))}
    return content


def episode():
    """Return a batch of one episode with the hidden state of a recurrent policy."""
    rows = {"obs": torch.rand(7, 1, 2, 3), "avail": torch.ones(7, 1, 2, 2, dtype=torch.bool), "state": torch.rand(7, 1, 4)}
    flags = torch.zeros(6, 1, dtype=torch.bool)
    action, reward = torch.zeros(6, 1, 2, dtype=torch.long), torch.rand(6, 1, 2)
    extras = {"hidden": torch.rand(6, 1, 2, 8)}
    return Batch(**rows, action=action, reward=reward, terminated=flags, truncated=flags, extras=extras)


@pytest.mark.parametrize("name", algos.available())
def test_a_checkpoint_of_format_2_goes_on(tmp_path, name):
    (config,) = parse(["--network", "cross", "--algos", name]).runs
    run = TrainingRun(config, SPEC, TrainingFolder(tmp_path))
    if isinstance(run.learner.replay, Replay):
        run.learner.replay.add(episode())
    run.stage_checkpoint()
    run.save()
    saved = checkpoint.load(run.folder.checkpoint)
    old = in_format_2(saved)
    assert set(old["config"]) != set(saved.config)
    torch.save(old, run.folder.checkpoint)
    again = TrainingRun(config, SPEC, TrainingFolder(tmp_path))
    weights = again.learner.algorithm.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in saved.training["weights"].items())
    assert checkpoint.load(run.folder.checkpoint).policy("cross").config == config.algo
    if isinstance(again.learner.replay, Replay):
        assert torch.equal(again.learner.replay.state()["extras"]["hidden"], saved.replay["extras"]["hidden"])


@pytest.mark.parametrize("content", [{"format": 1}, {"format": 3}, {"format": 2, "network": "x"}, [], {"format": 3, "magic": 1}])
def test_other_files_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="not of this program"):
        checkpoint.load(tmp_path / "checkpoint.pt")


def _known_settings(network, algorithm):
    (config,) = parse(["--network", network, "--algos", algorithm]).runs
    return {*renames.settings(config.as_dict()), *COMMAND_ONLY}


def test_every_export_has_the_settings_of_today():
    paths = sorted(EXPORTS.rglob(f"*{SUFFIX}"))
    assert paths
    known = functools.cache(_known_settings)
    for path in paths:
        content = read_file(path)
        for training in content["trainings"]:
            params, algorithm = training["run"]["params"], training["run"]["tags"]["algorithm"]
            assert params.keys() <= known(content["network"], algorithm), path
            assert {"timing", "disturbance"} <= training["evaluation"].keys()
            assert "reroute_share" in training["evaluation"]["demand"]


def test_names_of_today_stay():
    for name in algos.available():
        own = {field.name: None for field in dataclasses.fields(algos.find(name).Config)}
        assert renames.algorithm_settings(own) == own
        assert renames.weights(dict.fromkeys(algos.find(name)(SPEC, algos.find(name).Config()).state_dict())).keys()


@pytest.mark.parametrize(
    ("line", "today"),
    [
        ("--algo.kappa 0.5", "--algo.others_weight 0.5"),
        ("--algo.hard-every-updates 3", "--algo.target_update_interval 3"),
        ("--algo.adv=doc1 --algos jointq", "--algo.advantage=one_step_team --algos jointq"),
        ("--algo.adv own", "--algo.advantage own_plus_others"),
        ("--algos mappo jointq-doc_lambda --seeds 1", "--algos mappo jointq-lambda_team --seeds 1"),
        ("--demand.turns 0.1 --eval-demand.turns 0.2", "--demand.reroute_share 0.1 --eval_demand.reroute_share 0.2"),
        ("--algo.critic-epochs 2 --net cross", "--algo.critic-epochs 2 --net cross"),
    ],
)
def test_words_of_an_old_command_line(line, today):
    assert renames.words(line.split()) == today.split()


@pytest.mark.parametrize("name", [*algos.available(), "jointq-one_step_team"])
def test_settings_are_read_as_written(tmp_path, name):
    experiment = parse(["--network", "cross", "--algos", name, "--demand.profile", "1", "2", "--workers", "3"])
    folder = RunFolder(tmp_path)
    settings.write(folder, ["--network", "cross"], experiment)
    assert settings.read(folder) == experiment
    assert settings.read_command(folder) == ["--network", "cross"]


def test_settings_with_an_entry_for_each_algorithm_are_read(tmp_path):
    """Before a command had settings of its own, each algorithm's entry repeated them."""
    experiment = parse(["--network", "cross", "--algos", "mappo", "jointq-selfish", "--seeds", "0", "1"])
    folder = RunFolder(tmp_path)
    settings.write(folder, [], experiment)
    shared = json.loads(folder.config.read_text(encoding="utf-8"))
    own = shared.pop("algo")
    del shared["sha256"]
    folder.config.write_text(json.dumps([{"algo": own[name], **shared} for name in experiment.algos]), encoding="utf-8")
    assert settings.read(folder) == experiment


def test_settings_of_an_old_run_come_from_its_command(tmp_path):
    """A run of an earlier version has its command line and a copy of configs/, in the names of then."""
    folder = RunFolder(tmp_path)
    folder.command.write_text(
        json.dumps(["--net", "cross", "--algos", "jointq-doc1", "--algo.kappa", "0.5", "--algo.chunk", "5"]), encoding="utf-8"
    )
    (folder.old_configs / "algos").mkdir(parents=True)
    (folder.old_configs / "timing").mkdir()
    (folder.old_configs / "train.yaml").write_text("episodes: 6\n", encoding="utf-8")
    (folder.old_configs / "timing" / "sumo-rl.yaml").write_text("yellow_s: 4\n", encoding="utf-8")
    (folder.old_configs / "algos" / "jointq.yaml").write_text("lam: 0.3\n", encoding="utf-8")
    (folder.old_configs / "algos" / "jointq-doc1.yaml").write_text("adv: mix\n", encoding="utf-8")
    experiment = settings.read(folder)
    assert (experiment.episodes, experiment.timing.yellow_s) == (6, 4)
    (config,) = experiment.runs
    assert config.algorithm == "jointq-one_step_team"
    algo = config.algo
    assert (algo.gae_lambda, algo.others_weight, algo.bptt_length, algo.advantage) == (0.3, 0.5, 5, "mix")


def test_a_training_of_an_earlier_version_keeps_its_folder(tmp_path):
    """Earlier versions wrote an import path as it is, with a colon."""
    folder, name = RunFolder(tmp_path), "mine.ppo:Ppo"
    assert folder.training(name, 3).path.name == "mine.ppo-3a-Ppo-s3"
    (tmp_path / "mine.ppo:Ppo-s3").mkdir()
    assert folder.training(name, 3).path.name == "mine.ppo:Ppo-s3"


@pytest.mark.parametrize(
    "damage", [lambda text: text[:40], lambda text: text.replace('"lr"', '"magic"'), lambda _: "[]", lambda _: "{}"]
)
def test_settings_that_cannot_be_read_are_a_mistake(tmp_path, damage):
    folder = RunFolder(tmp_path)
    settings.write(folder, [], parse(["--network", "cross", "--algos", "ippo"]))
    folder.config.write_text(damage(folder.config.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(UserError, match="its settings cannot be read"):
        settings.read(folder)
