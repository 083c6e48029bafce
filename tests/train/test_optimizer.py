"""AdamW decays matrices, and nothing else."""

import torch
from torch import nn

from llama_train.settings import PretrainSettings
from llama_train.train.optimizer import adamw

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 96}


def test_norms_and_biases_do_not_decay():
    model = nn.Sequential(nn.Embedding(8, 4), nn.RMSNorm(4), nn.Linear(4, 8))
    optimizer = adamw(model, PretrainSettings(**SIZES, max_steps=1, weight_decay=0.5, learning_rate=0.1).resolve())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # without gradient only the decay moves a weight: w (1 - lr wd)
    for name, parameter in model.named_parameters():
        shrunk = before[name] * (1 - 0.1 * 0.5) if parameter.ndim == 2 else before[name]
        torch.testing.assert_close(parameter.detach(), shrunk)


def test_frozen_weights_are_left_out():
    model = nn.Linear(4, 4)
    model.weight.requires_grad_(False)
    optimizer = adamw(model, PretrainSettings(**SIZES, max_steps=1).resolve())
    assert [len(group["params"]) for group in optimizer.param_groups] == [0, 1]
