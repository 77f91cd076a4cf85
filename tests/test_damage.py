"""Damaged files: a file that this program reads back gives exactly what was written, or one line."""

import dataclasses
import json
import random
import shutil

import pytest
import torch
from helpers.cli import one_line

from tsc_marl import algos, deploy
from tsc_marl.config import parse
from tsc_marl.errors import UserError
from tsc_marl.evaluation.evaluate import load_matching_results, write_results
from tsc_marl.rollout.policies import TrainedPolicy
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import EpisodeMetrics
from tsc_marl.tracking import checkpoint, sealed, tensor_file
from tsc_marl.tracking.evaluation_file import Evaluation
from tsc_marl.tracking.run_folder import RunFolder, TrainingFolder
from tsc_marl.training import settings
from tsc_marl.training.replay import Replay
from tsc_marl.training.run import TrainingRun
from tsc_marl.types import Batch, Spec

pytest_plugins = ["helpers.fixtures"]

SPEC = Spec("cross", ("a",), 2, 3, 4, ((),))
ROWS = [{"episode": 2.0 * n, "delay": 30.5 / n, "reward": -1.5, "steps": 720.0 * n, "minutes": 0.1 * n} for n in (1, 2)]
MEASURED = {"random": [EpisodeMetrics(1, {"delay": 31.25, "worst_approach": float("nan"), "arrived": 426.0})]}


def step(algorithm):
    """Make one step of each optimiser, so that they have a state."""
    for optimiser in vars(algorithm).values():
        if isinstance(optimiser, torch.optim.Optimizer):
            for parameter in (p for group in optimiser.param_groups for p in group["params"]):
                parameter.grad = torch.randn_like(parameter)
            optimiser.step()


def training(folder, name="ippo", episode=4):
    """Save and return a training of a few episodes, without a simulation."""
    (config,) = parse(["--network", "cross", "--algos", name, "--episodes", "8"]).runs
    run = TrainingRun(config, SPEC, TrainingFolder(folder))
    step(run.learner.algorithm)
    if isinstance(run.learner.replay, Replay):
        rows = {"obs": torch.rand(7, 2, 1, 3), "avail": torch.ones(7, 2, 1, 2, dtype=torch.bool), "state": torch.rand(7, 2, 4)}
        flags, action = torch.zeros(6, 2, dtype=torch.bool), torch.zeros(6, 2, 1, dtype=torch.long)
        run.learner.replay.add(Batch(**rows, action=action, reward=torch.rand(6, 2, 1), terminated=flags, truncated=flags))
    run.episode, run.history = episode, [dict(row) for row in ROWS]
    run.stage_checkpoint()
    run.save()
    return run


def policy_file(path):
    config = algos.find("ippo").Config()
    policy = TrainedPolicy("ippo", config, algos.find("ippo")(SPEC, config).policy_state())
    deploy.save(path, policy, SPEC)


def format_3(path):
    training(path.parent).folder.checkpoint.rename(path)
    torch.save({"format": 3, **vars(checkpoint.load(path))}, path)


def old_policy(path):
    policy_file(path)
    torch.save(tensor_file.load(path), path)


def run_file(name, read):
    """Return how to write and how to read one text file of a run's folder."""

    def write(path):
        folder = RunFolder(path.parent)
        settings.write(folder, ["--network", "cross", "--algos", "ippo"], parse(["--network", "cross", "--algos", "ippo"]))
        settings.write_parent_id(folder, "0123456789abcdef" * 2)
        getattr(folder, name).rename(path)

    def reads(path):
        shutil.copy(path, getattr(RunFolder(path.parent), name))
        return read(RunFolder(path.parent))

    return write, reads


def evaluation(path):
    return sealed.read(path, Evaluation, "evaluate anew")


def measured(path):
    return load_matching_results(path, Task("cross"), ["random"], [1]) or refuse()


def refuse():
    raise UserError("left out, with a warning")


KINDS = {
    "checkpoint": (lambda path: training(path.parent).folder.checkpoint.rename(path), checkpoint.load),
    "checkpoint with a replay": (lambda path: training(path.parent, "iql").folder.checkpoint.rename(path), checkpoint.load),
    "checkpoint of format 3": (format_3, checkpoint.load),
    "policy": (policy_file, deploy.load),
    "policy of an earlier version": (old_policy, deploy.load),
    "evaluation": (lambda path: write_results(path, Task("cross"), MEASURED), evaluation),
    "measured": (lambda path: write_results(path, Task("cross"), MEASURED), measured),
    "command": run_file("command", settings.read_command),
    "config": run_file("config", settings.read),
    "parent": run_file("parent_id", settings.read_parent_id),
}


def damages(data):
    """Yield the bytes of a file with each of 200 bits flipped, 40 blocks overwritten, and some ends cut off."""
    rng = random.Random(len(data))
    for bit in rng.sample(range(8 * len(data)), min(200, 8 * len(data))):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)
    for _ in range(40):
        size = rng.randint(1, min(64, len(data)))
        begin = rng.randrange(len(data) - size + 1)
        yield data[:begin] + rng.randbytes(size) + data[begin + size :]
    for size in (0, 1, 8, len(data) // 2, len(data) - 1):
        yield data[:size]


def assert_same(one, other):
    """The same values of the same types, bit for bit."""
    assert type(one) is type(other)
    if dataclasses.is_dataclass(one):
        one, other = vars(one), vars(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key, value in one.items():
            assert_same(value, other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for inner, twin in zip(one, other, strict=True):
            assert_same(inner, twin)
    elif isinstance(one, torch.Tensor):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.numpy().tobytes() == other.numpy().tobytes()
    else:
        assert repr(one) == repr(other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused_or_holds_the_same(tmp_path, kind):
    write, read = KINDS[kind]
    path = tmp_path / "file"
    write(path)
    whole, data, refusals, read_well = read(path), path.read_bytes(), [], 0
    for changed in damages(data):
        path.write_bytes(changed)
        try:
            values = read(path)
        except UserError as error:
            refusals.append(str(error))
        else:
            assert_same(values, whole)
            read_well += 1
    assert len(refusals) > read_well
    assert not [line for line in refusals if "\n" in line]


ODD = {
    "tuple": (1, (2.5, None), []), "list": [True, False, 0, 1, -(2**70)], 7: {"int key": {0: {}, 1: "é\n\""}},
    "floats": [float("nan"), float("inf"), -0.0, 5e-324, 0.1 + 0.2], "scalar": torch.tensor(1.5, dtype=torch.float64),
    "empty": torch.zeros(0, 3), "bits": torch.tensor([True, False]), "bytes": torch.arange(256, dtype=torch.uint8),
    "nan": torch.tensor([float("nan"), -0.0]), "a/b": torch.ones(2),
    "a": {"b": torch.zeros(2)}, "view": torch.arange(12).view(3, 4).T[1:],
}  # fmt: skip


def test_every_value_comes_back_as_it_was(tmp_path):
    shared, half = torch.arange(6.0), torch.ones(3, dtype=torch.bfloat16)
    content = ODD | {"shared": [shared, shared, shared[2:]]}
    tensor_file.save(tmp_path / "file", content | {"half": half}, "")
    loaded = tensor_file.load(tmp_path / "file")
    loaded_half = loaded.pop("half")
    assert torch.equal(loaded_half, half)
    assert loaded_half.dtype == half.dtype
    assert_same(loaded, content)
    loaded["shared"][0] += 1
    assert torch.equal(loaded["shared"][1], shared)
    with pytest.raises(UserError, match="wrong/1 is of type set; expected tensors, numbers and strings"):
        tensor_file.save(tmp_path / "other", {"wrong": [1, {2}]}, "nothing is lost")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", algos.available())
def test_the_state_of_every_algorithm_comes_back_as_it_was(tmp_path, name):
    run = training(tmp_path, name)
    saved = checkpoint.load(run.folder.checkpoint)
    metrics = run.metrics.state()
    assert_same(saved, dataclasses.replace(run._staged, training=plain(run._staged.training), metrics=metrics))
    again = TrainingRun(run.config, SPEC, run.folder)
    assert_same(plain(again.learner.algorithm.training_state()), plain(run.learner.algorithm.training_state()))
    for one in (run, again):
        torch.manual_seed(1)
        step(one.learner.algorithm)
    assert_same(plain(again.learner.algorithm.training_state()), plain(run.learner.algorithm.training_state()))


def plain(state):
    """An algorithm's state with a dict for the ordered dict of torch, which has the same order."""
    return state | {"weights": dict(state["weights"])}


def test_a_checkpoint_of_format_3_goes_on(tmp_path):
    run = training(tmp_path, "iql")
    saved = checkpoint.load(run.folder.checkpoint)
    torch.save({"format": 3, **vars(saved)}, run.folder.checkpoint)
    again = TrainingRun(run.config, SPEC, run.folder)
    again.save()
    assert_same(checkpoint.load(run.folder.checkpoint), saved)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"episode": 10**9}, "its episode is 1000000000, its history ends at 4"),
        ({"episode": -1}, "episode: Input should be greater than or equal to 0"),
        ({"episode": 4.0}, "episode: Input should be a valid integer"),
        ({"episode": True}, "episode: Input should be a valid integer"),
        ({"history": []}, "its episode is 4, its history ends at 0"),
        ({"history": [ROWS[1], ROWS[0]]}, "history: episode does not rise from row to row"),
        ({"history": [ROWS[0], ROWS[1] | {"minutes": float("inf")}]}, "history: a row is not finite"),
        ({"history": [ROWS[0], ROWS[1] | {"reward": "9"}]}, "history.1.reward: Input should be a valid number"),
        ({"history": [{"episode": 4.0}]}, "history: a row has episode"),
        ({"seed": "0"}, "seed: Input should be a valid integer"),
        ({"training": {"weights": {"x": 1.0}}}, "training: its weights are no tensors by name"),
        ({"magic": 1}, "magic: Unexpected keyword argument"),
    ],
)
@pytest.mark.parametrize("version", [3, checkpoint.FORMAT])
def test_a_checkpoint_of_wrong_values_is_refused(tmp_path, version, change, said):
    """Written by another program, with a checksum that is right."""
    path = training(tmp_path).folder.checkpoint
    content = {"format": version, **vars(checkpoint.load(path)), **change}
    torch.save(content, path) if version == 3 else tensor_file.save(path, content, "")
    with pytest.raises(UserError) as refused:
        checkpoint.load(path)
    assert str(refused.value).startswith(f"checkpoint {path} is not of this program (expected format 4, 3 or 2; {said}")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    run = training(tmp_path)
    path, saved = run.folder.checkpoint, checkpoint.load(run.folder.checkpoint)
    name = next(name for name in saved.training["weights"] if name.startswith("actor"))
    saved.training["weights"][name].view(-1)[0] = value
    with pytest.raises(UserError, match=f"its weights {name} are not finite; the last one is whole"):
        checkpoint.save(saved, path)
    assert checkpoint.load(path).episode == 4
    for write in (lambda content, to: tensor_file.save(to, content, ""), torch.save):
        write({"format": 3, **vars(saved)}, path)
        with pytest.raises(UserError, match=f"has weights {name} that are not finite"):
            checkpoint.load(path)
    config = algos.find("ippo").Config()
    deploy.save(tmp_path / "policy.pt", TrainedPolicy("ippo", config, saved.training["weights"]), SPEC)
    with pytest.raises(UserError, match=f"has weights {name} that are not finite"):
        deploy.load(tmp_path / "policy.pt")


def test_a_checkpoint_of_more_episodes_than_the_run_is_refused(tmp_path):
    run = training(tmp_path, episode=10**9)
    run.history[-1]["episode"] = 1e9
    run.stage_checkpoint()
    run.save()
    with pytest.raises(UserError, match="has 1000000000 episodes, this run 8; remove it to start anew"):
        TrainingRun(run.config, SPEC, run.folder)


def test_a_snapshot_is_no_checkpoint_of_an_algorithm_with_a_replay(tmp_path):
    run = training(tmp_path, "iql")
    run.snapshot()
    shutil.copy(run.folder.snapshot(4), run.folder.checkpoint)
    with pytest.raises(UserError, match="has no replay, as a snapshot; a training cannot go on from it"):
        TrainingRun(run.config, SPEC, run.folder)


@pytest.mark.parametrize("text", ["null", "5", "[1, 2]", "{}", '"word"', '{"words": 5}', '{"words": []', "[" * 10**5, "\xff", ""])
@pytest.mark.parametrize("name", ["command.json", "config.json"])
def test_a_damaged_text_file_of_a_run_is_one_line(home, capsys, name, text):
    folder = RunFolder(home.folder / "runs" / "x")
    folder.path.mkdir(parents=True)
    settings.write(folder, ["--network", "cross"], parse(["--network", "cross"]))
    if name == "command.json":
        folder.config.unlink()  # a run of an earlier version trains by its command
    (folder.path / name).write_text(text, encoding="latin-1")
    assert home.main("train --resume x") == 2
    assert f"{folder.path / name}" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("text", ["null", "5", "{}", "0123", "G" * 32, "\xff", ""])
def test_a_damaged_id_of_the_parent_run_is_refused(tmp_path, text):
    folder = RunFolder(tmp_path)
    folder.parent_id.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"mlflow_parent is damaged .*; remove it"):
        settings.read_parent_id(folder)
    folder.parent_id.write_text(32 * "a", encoding="utf-8")  # as an earlier version wrote it
    assert settings.read_parent_id(folder) == 32 * "a"


def test_files_without_a_checksum_are_read_and_checked(tmp_path):
    path = tmp_path / "evaluation.json"
    write_results(path, Task("cross"), MEASURED)
    content = evaluation(path)
    path.write_text(json.dumps(content), encoding="utf-8")
    assert_same(evaluation(path), content)
    row = content["results"]["random"][0]
    for change, said in (
        ({"delay": "9"}, "valid number"), ({"delay": float("inf")}, "delay is infinite"), ({"seed": -1}, "a seed of at least 0"),
        ({"seed": 0.5}, "a seed of at least 0"), ({"delay": None}, "valid number"),
    ):  # fmt: skip
        path.write_text(json.dumps(content | {"results": {"random": [row | change]}}), encoding="utf-8")
        with pytest.raises(UserError, match=said):
            evaluation(path)


@pytest.mark.parametrize("value", [1e10, float("nan"), float("-inf")])
def test_weights_that_diverge_are_named(tmp_path, value):
    run = training(tmp_path)
    run.check_finite()
    name, weight = next(run.learner.algorithm.named_parameters())
    weight.detach().view(-1)[0] = value
    with pytest.raises(UserError, match=rf"ippo diverged after 4 episodes: weights {name} are not finite, or beyond 1e\+09;"):
        run.check_finite()


def test_a_training_that_diverges_keeps_the_last_finite_checkpoint(home, capsys):
    quick = "--episodes 4 --eval-seeds 1 --baselines --workers 1 --checkpoint-every 1"
    assert home.main(f"train --network cross --algos ippo --algo.lr 1e30 {quick}") == 2
    line = one_line(capsys.readouterr().err)
    assert "the training of ippo diverged after 0 episodes: weights " in line
    assert "train anew with a smaller learning rate (--algo.lr)" in line
    saved = checkpoint.load(home.checkpoints[0])
    assert saved.episode == 0
    assert all(tensor.isfinite().all() for tensor in saved.training["weights"].values())
