# pyright: reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
# Attributes of a torch module are those of its parts, which pyright does not know.
"""The gradient probe: games whose gradient is known, intervals that cover, and the verb on real traffic."""

import csv
import json
from dataclasses import replace
from math import isfinite, isnan

import pytest
import torch
from helpers.cli import one_line
from helpers.games import Noise, RingDump, collect
from torch.testing import assert_close

from tsc_marl import algos
from tsc_marl.analysis import advantage_estimators, gradient_probe, gradient_statistics
from tsc_marl.tracking import checkpoint

pytest_plugins = ["helpers.fixtures"]

SETTINGS = {"gamma": 0.95, "gae_lambda": 0.95, "critic_hidden": (32,), "lr": 1e-2, "epochs": 2, "num_minibatches": 1}
SETTINGS |= {"effects_lr": 1e-2, "effects_epochs": 4, "effects_lambda": 0.5}
STEPS = 25
WORTH = {"delayed": 1 - 2 * 0.95, "instant": 1 - 2}
"""To act rather than not is worth this to the team (gamma .95), and 1 to oneself, where nobody minds its bit."""


def ring(n, kind, weight=0.0):
    """A policy and 64 episodes of it; with weight 0 it does not mind its bit."""
    game = RingDump(n, envs=64, kind=kind)
    cls = algos.find("ippo")
    torch.manual_seed(0)
    policy = cls(game.spec, cls.Config(hidden=(8,), sharing="full_no_id"))
    with torch.no_grad():
        policy.actor.head.weight.mul_(weight)
    return policy, collect(game, policy, STEPS, torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def found():
    """Per game, the findings."""
    games = ((2, "delayed"), (8, "delayed"), (8, "instant"))
    return {game: advantage_estimators.measure(*ring(*game), SETTINGS) for game in games}


@pytest.mark.parametrize(
    ("game", "against"),
    [((8, "delayed"), {"own"}), ((8, "instant"), {"own", "one_step_team", "lambda_team"})],
    ids=("delayed", "instant"),
)
def test_sign_of_the_cosine_with_the_true_team_gradient(found, game, against):
    """The own rewards' gradient is +1, the team's -.9 or -1: cosine -1. One-step team advantages miss effects within the step."""
    for name, quality in found[game].quality.items():
        cosine = quality["agents"].cosine
        assert cosine.low < (-1 if name in against else 1) < cosine.high or name == "truth", (name, cosine)
        assert (cosine.value < -0.85) if name in against else (cosine.value > 0.85), (name, cosine)
        assert quality["agents"].gain.value * cosine.value > 0


def test_the_noise_of_a_shared_advantage_grows_with_the_agents(found):
    """Of 8 agents' streams instead of 2: four times the variance for the same signal."""
    needed = {name: [found[n, "delayed"].quality[name]["agents"].episodes.value for n in (2, 8)] for name in ("shared", "own")}
    print("\nepisodes until the mean gradient has cosine 1/2, for 2 and 8 agents:", needed)
    assert 2.5 < needed["shared"][1] / needed["shared"][0] < 6
    assert 0.5 < needed["own"][1] / needed["own"][0] < 1.6
    quality = found[8, "delayed"].quality
    assert quality["shared"]["agents"].episodes.value > 2 * quality["jointq"]["agents"].episodes.value
    assert quality["jointq"]["agents"].relative.low > 1


def exact(policy, kind):
    """The true gradient of an agent by enumeration of its bits and actions, a mean over the steps, the others being alike."""
    fed = []
    hook = policy.actor.head.register_forward_pre_hook(lambda _, given: fed.append(given[0][:, 0]))
    with torch.no_grad():
        probs = torch.softmax(policy.actor(torch.eye(2).unsqueeze(1).expand(2, policy.spec.n_agents, 2))[:, 0], -1)
    hook.remove()
    minds = probs[1, 1] - probs[0, 1]
    worth = WORTH[kind] / (1 - 0.95 * minds * (kind == "delayed"))
    bits, total = torch.tensor([0.5, 0.5]), torch.zeros(2, 9)
    for _ in range(STEPS):
        for bit in range(2):
            for action in range(2):
                weight = bits[bit] * probs[bit, action] * worth * (action - probs[bit, 1]) / STEPS
                total += weight * torch.outer(torch.eye(2)[action] - probs[bit], torch.cat([fed[0][bit], torch.ones(1)]))
        bits = bits @ probs if kind == "delayed" else bits
    return total.flatten().double(), minds.item()


@pytest.mark.parametrize("kind", ["delayed", "instant"])
def test_the_true_gradient_is_that_of_an_enumeration(kind):
    """A policy that minds its bit: the next agent acts by `minds` more, so 1 - 2 gamma is worth 1 / (1 - gamma minds)."""
    policy, batch = ring(4, kind, weight=50.0)
    expected, minds = exact(policy, kind)
    assert abs(minds) > 0.1
    mean = torch.cat(advantage_estimators.sampled(policy, batch, SETTINGS, sweeps=1)["truth"]).mean((0, 1))
    assert torch.cosine_similarity(mean, expected, 0) > 0.95
    assert mean.norm() / expected.norm() == pytest.approx(1, abs=0.25)


def test_the_score_is_the_gradient_of_the_log_policy():
    """The closed form against autograd, with forced rows that count nothing."""
    game = Noise()
    for sharing in ("full", "none"):
        cls = algos.find("ippo")
        policy = cls(game.spec, cls.Config(hidden=(8,), sharing=sharing))
        batch = collect(game, policy, 5, torch.Generator().manual_seed(0))
        advantage = torch.randn(batch.reward.shape, generator=torch.Generator().manual_seed(1))
        found = advantage_estimators.gradient(*advantage_estimators.policy_scores(policy, batch), advantage)
        rows, _ = policy.prepare(batch)
        logp = policy.log_policy(rows).gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
        loss = (logp * advantage).sum() / 5
        weight, bias = torch.autograd.grad(loss, [policy.actor.head.weight, policy.actor.head.bias])
        expected = torch.cat([weight, bias.unsqueeze(-1)], -1).flatten(1).double()
        added = torch.zeros_like(expected).index_add(0, policy.actor.head.group, found.sum(0))
        assert_close(added, expected, atol=1e-5, rtol=1e-5)


def test_pairs_of_different_episodes():
    products = torch.arange(9.0).view(1, 3, 3).double()
    weights = torch.tensor([[1.0, 1.0, 1.0], [2.0, 1.0, 0.0]]).double()
    assert_close(gradient_statistics.between(products, weights), torch.tensor([[24 / 6], [2 * (1 + 3) / 4]]).double())


def simulated(truth_noise, noise, cosine, random, episodes=32, size=200):
    """Findings on normal gradients of known mean; half of the noise is that of the truth."""
    true, other = torch.linalg.qr(torch.randn(size, 2, generator=random).double())[0].T
    mean = cosine * true + (1 - cosine**2) ** 0.5 * other
    deviates = torch.randn(2, 2, episodes // 2, 1, size, generator=random).double() / size**0.5
    truth = [true * (truth_noise >= 0) + abs(truth_noise) ** 0.5 * z for z in deviates[0]]
    x = [mean + (noise / 2) ** 0.5 * (z + w) for z, w in zip(*deviates, strict=True)]
    found = gradient_statistics.gradient_statistics(
        {"truth": truth, "shared": truth, "x": x}, torch.zeros(1, dtype=torch.long), ["a"]
    )
    return found.quality["x"]["a"]


def test_intervals_cover_what_is_known():
    """95 % of 40 are 38; 33 or fewer of them would come up once in 200 times."""
    random = torch.Generator().manual_seed(0)
    found = [simulated(30.0, 6.0, 0.5, random) for _ in range(40)]
    known = {"cosine": 0.5, "episodes": 2.0, "gain": 0.25}
    for name, value in known.items():
        figures = [getattr(quality, name) for quality in found]
        assert sum(figure.low <= value <= figure.high for figure in figures) >= 34, name
        middle = sorted(figure.value for figure in figures)[20]
        assert middle == pytest.approx(value, rel=0.15), name


def test_noise_is_not_printed_as_a_number():
    """A truth that is nothing but noise: no cosine and no ratio to `shared`, but how noisy the estimator is is known."""
    found = [simulated(-30.0, 6.0, 0.5, torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert sum(isnan(quality.cosine.value) for quality in found) >= 18
    assert sum(isnan(quality.relative.value) for quality in found) >= 18
    assert all(isfinite(quality.episodes.value) for quality in found)
    lost = simulated(30.0, 3000.0, 0.5, torch.Generator().manual_seed(0))
    assert isnan(lost.episodes.value)
    assert 10 < lost.episodes.low < 1000


# the verb


@pytest.fixture(scope="module")
def network(short_networks):
    return short_networks[1]


@pytest.fixture(scope="module")
def trained(new_home, network):
    """A home with a run of jointq and one of iql on a short grid2x2, two episodes each."""
    home = new_home()
    quick = f"--net {network} --episodes 2 --eval-seeds 1 --baselines --workers 1"
    assert home.main(f"train --algos jointq --algo.epochs 1 {quick}") == 0
    assert home.main(f"train --algos iql --algo.gradient_steps 1 {quick}") == 0
    return home


def test_a_run_is_probed(trained, network, tmp_path, capsys):
    (path,) = trained.folder.glob("runs/*/jointq-s0/checkpoint.pt")
    torch.set_num_threads(2)
    assert trained.main(f"probe --net {network} --run {path} --episodes 16 --out {tmp_path} --workers 2") == 0
    assert torch.get_num_threads() == 1, "another number of cores would give other figures"
    said = " ".join(capsys.readouterr().out.split())
    assert "jointq s0, episode 2 (lambda 0.8, advantages normalised by agent): the true gradients of two halves" in said
    (found,) = json.loads((tmp_path / "probe.json").read_text(encoding="utf-8"))["policies"].values()
    gain = found["quality"]["truth"]["agents"]["gain"]
    assert gain["low"] < gain["value"] < gain["high"]
    rows = list(csv.DictReader((tmp_path / "probe.csv").open(encoding="utf-8")))
    assert len(rows) == len(advantage_estimators.RECIPES) * (2 + 4)
    assert float(rows[0]["gain_value"]) == gain["value"]
    assert (tmp_path / "probe.png").stat().st_size > 10_000


def test_a_folder_stands_for_its_snapshots_in_order(tmp_path):
    (tmp_path / "snapshots").mkdir()
    for name in ("checkpoint.pt", "snapshots/0.pt", "snapshots/100.pt", "snapshots/25.pt"):
        (tmp_path / name).touch()
    found = gradient_probe.checkpoints(str(tmp_path), "grid2x2")
    assert [path.stem for path in found] == ["0", "25", "100", "checkpoint"]


def test_mistakes_of_a_probe(trained, network, tmp_path, capsys):
    (iql,) = trained.folder.glob("runs/*/iql-s0/checkpoint.pt")
    (jointq,) = trained.folder.glob("runs/*/jointq-s0/checkpoint.pt")
    saved, own = checkpoint.load(jointq), tmp_path / "own.pt"
    checkpoint.save(replace(saved, sim=saved.sim | {"observation": "lanes"}), own)
    for line, said in (
        (f"--net {network} --run {iql}", "iql has no softmax policy of single agents"),
        (f"--net {network} --run iql", "iql has no softmax policy"),
        (f"--net {network} --run max_pressure", "max_pressure is a classical controller, which has no checkpoint"),
        (f"--net cross --run {own}", "trained on short_grid2x2, not cross"),
        (f"--net {network} --run {tmp_path}", "holds no checkpoint; give a folder runs/<training>/<algorithm>-s<seed>"),
        (f"--net {network} --run mappo", "no finished run of mappo on short_grid2x2"),
        ("--net grid2x2 --episodes 15", "episodes must be an even number of at least 16; got 15"),
        ("--net grid2x2 --truth-lam 2", "truth_lam must lie in [0, 1]; got 2.0"),
        ("--net grid2x2 --run a a", "policy needs at least one entry and none twice; got a a"),
    ):
        assert trained.main(f"probe {line} --out {tmp_path / 'out'} --workers 1") == 2
        assert said in one_line(capsys.readouterr().err)
