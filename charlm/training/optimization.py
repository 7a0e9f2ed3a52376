"""From gradient to step: the optimisers, and the learning rate over a run."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from charlm.config import TrainingConfig

_BETA1 = 0.9  # of adam and adamw


def make_optimizer(
    network: nn.Module, config: TrainingConfig, table: Tensor | None = None
) -> torch.optim.Optimizer:
    """Makes the optimiser that a configuration asks for, over the parameters of a network, at its peak rate.

    `sgd` is θ ← θ - η g, with momentum if asked; weight decay λ is that of `adamw`,

        θ ← (1 - ηλ) θ - η m / (√v + ε)

    on matrices that are multiplied by. Biases are left alone, and so is the table that symbols are looked up in:
    what a rare symbol has learnt there would be gone before it comes again.

    Args:
        network: its parameters are moved.
        config: the `training` section of the configuration.
        table: the first of its matrices, if that does not decay.
    """
    params = list(network.parameters())
    rate, betas = config.learning_rate, (_BETA1, config.beta2)
    fused = params[0].device.type in ("cpu", "cuda")  # one kernel for each tensor instead of a dozen operations
    if config.optimizer == "sgd":
        return torch.optim.SGD(params, lr=rate, momentum=config.momentum)
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(params, lr=rate, alpha=config.beta2, momentum=config.momentum)
    if config.optimizer == "adam":
        return torch.optim.Adam(params, lr=rate, betas=betas, fused=fused)
    groups = [  # in the order of the parameters, by which checkpoints number them
        {"params": [p for p in params if p is table], "weight_decay": 0.0},
        {"params": [p for p in params if p is not table and p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=fused)


def optimizer_slots(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns what an optimiser stores of each parameter after a step, by INDEX.NAME, as shapes without memory."""
    adam = ("exp_avg", "exp_avg_sq")
    names = {
        torch.optim.SGD: (),
        torch.optim.RMSprop: ("square_avg",),
        torch.optim.Adam: adam,
        torch.optim.AdamW: adam,
    }[type(optimizer)]
    if optimizer.defaults.get("momentum"):
        names += ("momentum_buffer",)
    slots: dict[str, Tensor] = {}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(parameters):
        slots |= {f"{index}.{name}": torch.empty_like(parameter, device="meta") for name in names}
        if not isinstance(optimizer, torch.optim.SGD):
            slots[f"{index}.step"] = torch.empty((), device="meta")
    return slots


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
