"""AdamW over what trains: the value head may have a learning rate of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.tensor import DTensor

from wmtp_ray.config.run import OptimizerConfig
from wmtp_ray.errors import ModelError
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.training.objective import TrainableModel
from wmtp_ray.training.sharding import placed

MAIN_GROUP = "model"


def build_optimizer(model: TrainableModel, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW with one group for the value head, where the model has one, and one for everything else. Groups have names:
    `model` and `head`."""
    if isinstance(model, ValueModel):
        parts = model.parameter_groups()
        groups = [
            (MAIN_GROUP, parts.backbone, config.learning_rate),
            ("head", parts.head, config.head_learning_rate or config.learning_rate),
        ]
    else:
        groups = [(MAIN_GROUP, list(model.trainable_parameters().values()), config.learning_rate)]
    if not any(parameters for _, parameters, _ in groups):
        raise ModelError("no parameter of the model trains; set model.lora, or model.train: head or all")
    # One fused loop over tensors takes sharded or whole ones, not both.
    sharded = any(isinstance(p, DTensor) for _, parameters, _ in groups for p in parameters)
    return torch.optim.AdamW(
        [{"params": parameters, "lr": rate, "name": name} for name, parameters, rate in groups if parameters],
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        foreach=False if sharded else None,
    )


def load_moments(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take AdamW's moments and step counts from `state`, and nothing else: rates, betas and decay stay those of the
    configuration, which `resume_allow` may have let change."""
    configured = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        i: {name: placed(tensor, parameters[i]) for name, tensor in of_one.items()}
        for i, of_one in state["state"].items()
    }
    optimizer.load_state_dict(state | {"state": moments})
    for group, own in zip(optimizer.param_groups, configured, strict=True):
        group.update(own)


def learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """`learning_rate`, and `learning_rate_head` where the value head has a group of its own."""
    return {
        "learning_rate" if i == 0 else f"learning_rate_{group['name']}": group["lr"]
        for i, group in enumerate(optimizer.param_groups)
    }
