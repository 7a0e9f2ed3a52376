"""From gradient to step: the optimisers, and the learning rate over a run."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def build_optimizer(
    model: nn.Module,
    name: str,
    *,
    learning_rate: float,
    momentum: float = 0.0,
    beta2: float = 0.99,
    weight_decay: float = 0.01,
) -> torch.optim.Optimizer:
    """Builds an optimiser over a model's parameters.

    Args:
        model: what to optimise.
        name: `sgd` (θ ← θ - η g, with momentum if asked), `rmsprop`, `adam` or `adamw`.
        learning_rate: the peak of the schedule.
        momentum: of sgd and rmsprop.
        beta2: decay of the squared gradients for rmsprop, adam and adamw.
        weight_decay: of adamw, on matrices only; biases are left alone.
    """
    params = list(model.parameters())
    fused = params[0].device.type in ("cpu", "cuda")  # one kernel for each tensor instead of a dozen operations
    if name == "sgd":
        return torch.optim.SGD(params, lr=learning_rate, momentum=momentum)
    if name == "rmsprop":
        return torch.optim.RMSprop(params, lr=learning_rate, alpha=beta2, momentum=momentum)
    if name == "adam":
        return torch.optim.Adam(params, lr=learning_rate, betas=(0.9, beta2), fused=fused)
    groups = [
        {"params": [p for p in params if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, beta2), fused=fused)


def kept_by(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns what an optimiser keeps of each parameter after a step, by `INDEX.NAME`, as shapes without memory."""
    adam = ("exp_avg", "exp_avg_sq")
    names = {
        torch.optim.SGD: (),
        torch.optim.RMSprop: ("square_avg",),
        torch.optim.Adam: adam,
        torch.optim.AdamW: adam,
    }[type(optimizer)]
    if optimizer.defaults.get("momentum"):
        names += ("momentum_buffer",)
    kept: dict[str, Tensor] = {}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(parameters):
        kept |= {f"{index}.{name}": torch.empty_like(parameter, device="meta") for name in names}
        if not isinstance(optimizer, torch.optim.SGD):
            kept[f"{index}.step"] = torch.empty((), device="meta")
    return kept


def schedule_factor(schedule: str, fraction: float, warmup: float) -> float:
    """Returns what the learning rate is multiplied by when `fraction` of the budget is spent.

    Over the first `warmup` of the budget the factor rises from 0 to 1. After it, with u going from 0 to 1 over
    the rest: `linear` 1 - u; `cosine` (1 + cos πu)/2; `step` 1, then 0.1 from half and 0.01 from three quarters;
    `constant` 1. Whatever the budget's unit, the schedule ends where the budget does.
    """
    if fraction < warmup:
        return fraction / warmup
    u = min(1.0, (fraction - warmup) / (1 - warmup))
    if schedule == "linear":
        return 1 - u
    if schedule == "cosine":
        return (1 + math.cos(math.pi * u)) / 2
    if schedule == "step":
        return 1.0 if u < 0.5 else 0.1 if u < 0.75 else 0.01
    return 1.0
