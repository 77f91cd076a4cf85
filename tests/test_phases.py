"""Nets over links and phases: the same weights for every network, and nothing but the traffic decides."""

import pytest
import torch

from tsc_marl import algos
from tsc_marl.nn.phases import PhaseNet
from tsc_marl.types import Movements, Spec

L, A, LK, K, PK, SK = 6, 4, 3, 2, 1, 2


def movements(n, seed=0, n_links=L, n_phases=A):
    """N signals with 2 to n_phases phases and 3 to n_links links, each link going on to one of the next signal."""
    rng = torch.Generator().manual_seed(seed)
    links = torch.randint(3, n_links + 1, (n,), generator=rng)
    phases = torch.randint(2, n_phases + 1, (n,), generator=rng)
    real, phase_real = torch.arange(n_links) < links[:, None], torch.arange(n_phases) < phases[:, None]
    serves = torch.randint(0, 3, (n, n_phases, n_links), generator=rng) * real[:, None] * phase_real[..., None]
    onward = torch.tensor([(i * n_links + k, (i + 1) % n * n_links + k % 3) for i in range(n) for k in range(int(links[i]))])
    link = torch.rand(n, n_links, K, generator=rng) * real[..., None]
    return Movements(link, real, serves, phase_real, onward, LK, PK, SK)


def observed(m, rows=5, seed=0):
    """Observations [rows, N, F] with zeros in padding."""
    n, n_links = m.real.shape
    rng = torch.Generator().manual_seed(seed)
    links = torch.rand(rows, n, n_links, LK, generator=rng) * m.real[..., None]
    phases = torch.rand(rows, n, m.phase_real.shape[1], PK, generator=rng) * m.phase_real[..., None]
    return torch.cat([links.flatten(2), phases.flatten(2), torch.rand(rows, n, SK, generator=rng)], dim=-1)


def net(m, central=False, like=None, **kwargs):
    torch.manual_seed(0)
    made = PhaseNet(m, (16, 16), 1, 2, "full", 1.0, central=central, **kwargs)
    if like is not None:
        made.load_state_dict(like.state_dict())
    return made


def parts(m, out):
    """Value [rows, N] and phases [rows, N, 2, A] of an output."""
    return out[..., 0], out[..., 1:].unflatten(-1, (2, m.phase_real.shape[1]))


@pytest.mark.parametrize("central", [False, True])
def test_the_order_of_phases_and_links_is_a_matter_of_names(central):
    m = movements(4)
    obs, one = observed(m), net(m, central)
    links, phases = torch.randperm(L), torch.randperm(A)
    back = torch.argsort(links)
    onward = torch.stack([x // L * L + back[x % L] for x in m.onward.T], dim=1)
    other = Movements(
        m.link[:, links], m.real[:, links], m.serves[:, phases][..., links], m.phase_real[:, phases], onward, LK, PK, SK
    )
    split = (L * LK, A * PK, SK)
    a, b, c = obs.split(split, dim=-1)
    again = torch.cat([a.unflatten(-1, (L, LK))[..., links, :].flatten(-2), b[..., phases], c], dim=-1)
    value, scores = parts(m, one(obs))
    value2, scores2 = parts(m, net(other, central, one)(again))
    torch.testing.assert_close(value2, value)
    torch.testing.assert_close(scores2, scores[..., phases])


@pytest.mark.parametrize("central", [False, True])
def test_the_order_of_signals_is_a_matter_of_names(central):
    m = movements(5)
    obs, one, order = observed(m), net(m, central), torch.randperm(5)
    back = torch.argsort(order)
    onward = torch.stack([back[x // L] * L + x % L for x in m.onward.T], dim=1)
    other = Movements(m.link[order], m.real[order], m.serves[order], m.phase_real[order], onward, LK, PK, SK)
    torch.testing.assert_close(net(other, central, one)(obs[:, order]), one(obs)[:, order])


def test_a_further_signal_changes_no_weight_and_no_other_signal():
    large = movements(50)
    small = Movements(
        *(getattr(large, name)[:2] for name in ("link", "real", "serves", "phase_real")), large.onward[:0], LK, PK, SK
    )
    one, obs = net(large), observed(large)
    assert {k: v.shape for k, v in one.state_dict().items()} == {k: v.shape for k, v in net(small).state_dict().items()}
    torch.testing.assert_close(net(small, like=one)(obs[:, :2]), one(obs)[:, :2])


@pytest.mark.parametrize("central", [False, True])
def test_padding_never_leaks(central):
    m = movements(3)
    one, obs = net(m, central), observed(m)
    wide = Movements(
        torch.nn.functional.pad(m.link, (0, 0, 0, 4)), torch.nn.functional.pad(m.real, (0, 4)),
        torch.nn.functional.pad(m.serves, (0, 4, 0, 3)), torch.nn.functional.pad(m.phase_real, (0, 3)),
        m.onward // L * (L + 4) + m.onward % L, LK, PK, SK,
    )  # fmt: skip
    a, b, c = obs.split((L * LK, A * PK, SK), dim=-1)
    junk = torch.rand(5, 3, 4 * LK), torch.rand(5, 3, 3 * PK)
    value, scores = parts(m, one(obs))
    value2, scores2 = parts(wide, net(wide, central, one)(torch.cat([a, junk[0], b, junk[1], c], dim=-1)))
    torch.testing.assert_close(value2, value)
    torch.testing.assert_close(scores2[..., :A], scores)


def test_a_central_net_sees_the_signals_beside_and_no_further():
    m = movements(6)
    obs, one = observed(m, 1), net(m, central=True)
    obs.requires_grad_(True)
    one(obs)[0, 2, 0].backward()
    seen = obs.grad[0].abs().sum(-1) > 0
    assert seen.tolist() == [False, True, True, True, False, False]


def test_a_memory_is_kept_from_step_to_step():
    m = movements(3)
    one, obs = net(m, recurrent=True), observed(m, 6).unsqueeze(1)
    whole, last = one.unroll(obs, None)
    first, memory = one.unroll(obs[:2], None)
    second, end = one.unroll(obs[2:], memory)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(end, last)


def test_a_memory_counts_in_the_choice_among_phases():
    m = movements(3)
    one, obs = net(m, recurrent=True), observed(m, 1).unsqueeze(1)
    memory = torch.rand(1, 3, 16, generator=torch.Generator().manual_seed(1))
    (_, fresh), (_, later) = (parts(m, one.unroll(obs, carry)[0][0]) for carry in (None, memory))
    change = (later - fresh).masked_fill(~m.phase_real[:, None], float("nan"))[0, :, 0]
    assert all(row[row.isfinite()].std() > 1e-3 for row in change if row.isfinite().sum() > 1)


@pytest.mark.parametrize(
    "name", ["ippo", "mappo", "mappo_ind", "jointq", "jointq_doc", "ia2c", "maa2c", "iql", "vdn", "mat", "mat_dec"]
)
def test_algorithms_have_the_same_weights_for_every_network(name):
    kind = algos.find(name)

    def made(n, n_links, n_phases):
        m = movements(n, 0, n_links, n_phases)
        size = n_links * LK + n_phases * PK + SK
        spec = Spec("x", tuple(map(str, range(n))), n_phases, size, n * size + 1, ((),) * n, m)
        return kind(spec, kind.Config(sharing="full"))

    small, large = made(2, 6, 4), made(50, 9, 8)
    carried = large.state_here(small.state_dict())
    assert {k: v.shape for k, v in carried.items()} == {k: v.shape for k, v in large.state_dict().items()}
    assert {k: v.shape for k, v in small.named_parameters()} == {k: v.shape for k, v in large.named_parameters()}
