"""Value heads: from a hidden state to one number, in float32."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from wmtp_ray.models.lora import fill_uniform


class ValueHead(nn.Module):
    """V_t from the normed hidden state at t: [..., D] in any dtype to [...] in float32.

    - `linear`: w·h + b. Zero start, so V = initial_bias at first.
    - `sigmoid`: σ(w·h + b), for values that are probabilities. Zero start, V = σ(initial_bias).
    - `mlp`: D → D/4 → D/8 → 1 with GELU and dropout, last layer zero, so V = initial_bias at first.
    """

    def __init__(
        self,
        kind: Literal["linear", "sigmoid", "mlp"],
        width: int,
        initial_bias: float,
        dropout: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.kind = kind
        last_width = width
        hidden: list[nn.Module] = []
        if kind == "mlp":
            for divisor in (4, 8):
                hidden += [nn.Linear(last_width, width // divisor), nn.GELU(), nn.Dropout(dropout)]
                last_width = width // divisor
        self.hidden = nn.Sequential(*hidden)
        self.out = nn.Linear(last_width, 1)
        for name, parameter in self.hidden.named_parameters():
            if parameter.ndim == 2:
                fill_uniform(parameter, 1 / math.sqrt(parameter.shape[1]), seed, f"value_head/{name}")
            else:
                nn.init.zeros_(parameter)
        nn.init.zeros_(self.out.weight)
        nn.init.constant_(self.out.bias, initial_bias)

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            value = self.out(self.hidden(hidden.float())).squeeze(-1)
            return torch.sigmoid(value) if self.kind == "sigmoid" else value
