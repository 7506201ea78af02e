"""AdamW over what trains: the value head may have a learning rate of its own."""

from __future__ import annotations

import torch

from wmtp_ray.config.run import OptimizerConfig
from wmtp_ray.errors import ModelError
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.training.objective import TrainableModel


def build_optimizer(model: TrainableModel, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW with one group for the value head, where the model has one, and one for everything else."""
    if isinstance(model, ValueModel):
        parts = model.parameter_groups()
        rates = [
            (parts.backbone, config.learning_rate),
            (parts.head, config.head_learning_rate or config.learning_rate),
        ]
    else:
        rates = [(list(model.trainable_parameters().values()), config.learning_rate)]
    if not any(parameters for parameters, _ in rates):
        raise ModelError("no parameter of the model trains; set model.lora, or model.train: head or all")
    groups = [{"params": parameters, "lr": rate} for parameters, rate in rates if parameters]
    return torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay)
