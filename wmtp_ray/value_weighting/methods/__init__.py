"""Ways to weight tokens, one file for each family.

The trainer fetches what a method `needs`, hands it whole steps, and knows none by name. To add one, write a class
with `weigh` (see `method.WeightingMethod`), give it a section in `wmtp_ray/config/weighting.py` and a line in
`build_method`.

| `weighting.method` | file | weights |
|---|---|---|
| `uniform` | `uniform.py` | 1 |
| `critic` | `critic.py` | exp of the whitened advantage, clipped; λ = 0 is TD(0), λ = 1 Monte-Carlo |
| `sign_flipped` | `critic.py` | the same of the negative advantage |
| `circular_shift`, `shuffled`, `sequence_mean`, `random_matched` | `controls.py` | the critic's, without their place |
| `class_position_matched` | `matched.py` | the critic's mean for the token's class and tenth of the response |
| `rho1` | `rho1.py` | 1 on the targets with the highest excess loss over a reference, 0 elsewhere |
"""

from __future__ import annotations

from wmtp_ray.config.weighting import (
    ControlWeighting,
    CriticObjectiveKind,
    CriticWeighting,
    Rho1Weighting,
    UniformWeighting,
    WeightingBase,
)
from wmtp_ray.value_weighting.methods.controls import CircularShift, RandomMatched, SequenceMean, Shuffled
from wmtp_ray.value_weighting.methods.critic import CriticAdvantage, SignFlipped
from wmtp_ray.value_weighting.methods.matched import ClassPositionMatched
from wmtp_ray.value_weighting.methods.method import LossSelection, WeightingMethod
from wmtp_ray.value_weighting.methods.rho1 import Rho1
from wmtp_ray.value_weighting.methods.uniform import Uniform

__all__ = ["LossSelection", "WeightingMethod", "build_method"]

_MOVED = {
    "circular_shift": CircularShift,
    "shuffled": Shuffled,
    "sequence_mean": SequenceMean,
    "random_matched": RandomMatched,
}


def build_method(
    config: WeightingBase, eos_token_id: int, critic: CriticObjectiveKind = "ranking", folds: int = 1
) -> WeightingMethod:
    """The method that a configuration section describes; `critic` and `folds` say what the frozen critics were
    trained for, and how many there are."""
    match config:
        case UniformWeighting():
            return Uniform()
        case ControlWeighting(method="sign_flipped"):
            return SignFlipped(config, critic, folds)
        case ControlWeighting(method="class_position_matched"):
            return ClassPositionMatched(config, critic, folds)
        case ControlWeighting():
            return _MOVED[config.method](config, eos_token_id, critic, folds)
        case CriticWeighting():
            return CriticAdvantage(config, critic, folds)
        case Rho1Weighting():
            return Rho1(config)
        case _:
            raise AssertionError(f"no weighting method for {type(config).__name__}")
