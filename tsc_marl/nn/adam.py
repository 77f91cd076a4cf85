"""Adam without torch's compiler."""

import inspect

import torch


class Adam(torch.optim.Adam):
    """torch's Adam, to the last bit. Its own methods first import torch's compiler, 1.5 s in each process, to switch it off."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
