"""Networks under every sharing of parameters, the value normaliser and the monotone mixer."""

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from tsc_marl.nn import agent, critics
from tsc_marl.nn.normalisation import ValueNorm


def noisy(module):
    """Give every parameter a random value, biases and zero heads too."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    return module


@pytest.mark.parametrize("group", [[0, 1, 2], [0, 0, 1], [1, 0, 1], [0, 0, 0]])
def test_group_linear_is_k_linears(group):
    layer = noisy(agent.GroupLinear(3, 4, 5, "seps", 1.0))
    layer.group.copy_(torch.tensor(group))
    x = torch.randn(6, 2, 3, 4)
    for i, k in enumerate(group):
        assert_close(layer(x)[..., i, :], functional.linear(x[..., i, :], layer.weight[k], layer.bias[k]))


def test_group_linear_starts_orthogonal_with_zero_bias():
    layer = agent.GroupLinear(2, 8, 4, "none", 2.0)
    for weight in layer.weight:
        assert_close(weight @ weight.T, 4 * torch.eye(4), atol=1e-5, rtol=0)
    assert not layer.bias.any()
    assert not torch.equal(layer.weight[0], layer.weight[1])


def test_with_an_id_agents_differ_on_equal_input_and_without_one_not():
    x = torch.randn(10, 1, 4).expand(10, 3, 4)
    for sharing, same in (("full", False), ("full_no_id", True), ("none", False)):
        out = noisy(agent.AgentNet(3, 4, [8], 2, sharing, 1.0))(x)
        assert torch.allclose(out[:, 0], out[:, 1], atol=1e-6) is same, sharing


@pytest.mark.parametrize("sharing", ["full", "full_no_id"])
def test_shared_networks_have_one_set_of_parameters(sharing):
    assert all(len(p) == 1 for p in agent.AgentNet(3, 4, [8], 2, sharing, 1.0).parameters())


def test_unshared_outputs_depend_on_own_parameters_and_own_input_only():
    net = agent.AgentNet(3, 4, [8, 8], 2, "none", 1.0)
    x = torch.randn(10, 3, 4, requires_grad=True)
    for i in range(3):
        x.grad = None
        net.zero_grad()
        net(x)[:, i].square().sum().backward()
        others = [k for k in range(3) if k != i]
        for parameter in net.parameters():
            assert parameter.grad[i].any()
            assert not parameter.grad[others].any()
        assert x.grad[:, i].any()
        assert not x.grad[:, others].any()


@pytest.mark.parametrize("sharing", ["full", "full_no_id", "none"])
def test_central_net_is_the_concatenation(sharing):
    net = noisy(critics.CentralNet(3, 4, 5, [8, 8], 2, sharing, 1.0))
    obs, state = torch.randn(6, 2, 3, 4), torch.randn(6, 2, 5)
    embedding = functional.relu(net.embed(state)).unsqueeze(-2).expand(6, 2, 3, 8)
    assert_close(net(obs, state), net.net(torch.cat([obs, embedding], dim=-1)))
    moved = net(obs, state + torch.randn(5))
    assert not torch.isclose(moved, net(obs, state)).any(dim=-1).all()


def test_moments_start_as_the_identity():
    x = torch.randn(5)
    assert_close(ValueNorm(0.9).normalise(x), x)


def test_each_agent_may_have_moments_of_its_own():
    x = torch.tensor([[[1.0, 100.0]], [[3.0, 500.0]]])
    apart, first, second = ValueNorm(0.9, 2), ValueNorm(0.9), ValueNorm(0.9)
    for _ in range(3):
        apart.update(x)
        first.update(x[..., 0])
        second.update(x[..., 1])
    assert_close(apart.normalise(x), torch.stack([first.normalise(x[..., 0]), second.normalise(x[..., 1])], -1))
    assert_close(apart.restore(apart.normalise(x)), x)


def test_moments_are_debiased():
    moments = ValueNorm(0.9)
    first, second = 5 + 2 * torch.randn(1000), 20 + torch.randn(1000)
    moments.update(first)
    assert_close(moments.mean, first.mean())
    assert_close(moments.deviation, first.std(unbiased=False), rtol=1e-4, atol=0)
    moments.update(second)
    shares = torch.tensor([0.09, 0.1]) / 0.19
    assert_close(moments.mean, shares @ torch.stack([first.mean(), second.mean()]))
    square = shares @ torch.stack([(first**2).mean(), (second**2).mean()])
    assert_close(moments.deviation, (square - moments.mean**2).sqrt(), rtol=1e-4, atol=0)


def test_moments_restore_undoes_normalise():
    moments = ValueNorm(0.9)
    moments.update(100 + 30 * torch.randn(50))
    x = torch.randn(20) * 50
    assert_close(moments.restore(moments.normalise(x)), x)
    assert_close(moments.normalise(moments.mean + moments.deviation), torch.tensor(1.0))


def test_monotone_mixer_never_falls_in_any_agents_value():
    mixer = noisy(critics.MonotoneMixer(3, 5, embed=8))
    values, state = (3 * torch.randn(200, 3)).requires_grad_(), 3 * torch.randn(200, 5)
    mixer(values, state).sum().backward()
    assert (values.grad >= 0).all()
    assert (values.grad > 0).any(dim=-1).all()
    assert values.grad.std(dim=0).min() > 0.01  # the weights depend on the state
