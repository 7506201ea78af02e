"""AdamW over what trains: the value head may have a learning rate of its own."""

from __future__ import annotations

import torch
from torch import nn

from wmtp_ray.config.run import OptimizerConfig
from wmtp_ray.errors import ModelError
from wmtp_ray.models.value_model import ValueModel


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that train, in the model's order; `ModelError` where there are none."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ModelError("no parameter of the model trains; set lora, or train: head or all")
    return parameters


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW with one group for the value head, where the model has one, and one for everything else."""
    if isinstance(model, ValueModel):
        parts = model.parameter_groups()
        rates = [
            (parts.backbone, config.learning_rate),
            (parts.head, config.head_learning_rate or config.learning_rate),
        ]
    else:
        rates = [(trainable(model), config.learning_rate)]
    groups = [{"params": parameters, "lr": rate} for parameters, rate in rates if parameters]
    return torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay)
