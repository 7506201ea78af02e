"""LoRA through peft: float32 adapters on selected decoder layers, never on embedding or unembedding."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wmtp_ray.config.model import LoRAConfig
from wmtp_ray.errors import ModelError

if TYPE_CHECKING:
    # At run time in the functions that need it: peft takes seconds, and most processes hold no adapters.
    from peft import LoraConfig

ADAPTER = "default"
LORA_A = f".lora_A.{ADAPTER}.weight"
LORA_B = f".lora_B.{ADAPTER}.weight"


def adapted_layers(layers: Sequence[nn.Module], config: LoRAConfig) -> list[nn.Module]:
    """The layers to adapt: all, or the last `config.last_layers`; `ModelError` if there are fewer."""
    if config.last_layers is None:
        return list(layers)
    if config.last_layers > len(layers):
        message = (
            f"lora.last_layers {config.last_layers}: the model has {len(layers)} layers; lower it or set null"
        )
        raise ModelError(message)
    return list(layers)[-config.last_layers :]


def inject_lora(layers: Iterable[nn.Module], config: LoRAConfig) -> None:
    """Put untrained float32 adapters into `layers`, in place; only the adapters are left trainable there.

    Errors: `ModelError` if a target module is not a linear map of the decoder layers (so the unembedding
    never is).
    """
    from peft import inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    chosen = nn.ModuleList(layers)
    linear = {
        name.rpartition(".")[2] for name, module in chosen.named_modules() if isinstance(module, nn.Linear)
    }
    if unknown := sorted(set(config.target_modules) - linear):
        raise ModelError(
            f"lora.target_modules {unknown} are no linear maps of a decoder layer; it has {sorted(linear)}"
        )
    with torch.random.fork_rng(devices=[]):  # peft's own initialisation, replaced by `initialise_lora`
        inject_adapter_in_model(peft_config(config), chosen, adapter_name=ADAPTER)
    for name, parameter in chosen.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()
    for module in chosen.modules():
        if isinstance(module, LoraLayer):  # autocast casts as it needs to: peft would go by float32 and back
            module.cast_input_dtype_enabled = False


def initialise_lora(module: nn.Module, seed: int) -> None:
    """A uniform in ±1/√(inputs) (peft's default), B zero: the adapted model starts as the base.

    Each A has its own generator, seeded from (seed, its name in `module`): the same whatever else is adapted.
    """
    for name, parameter in module.named_parameters():
        if name.endswith(LORA_A):
            fill_uniform(parameter, 1 / math.sqrt(parameter.shape[1]), seed, name)
        elif name.endswith(LORA_B):
            nn.init.zeros_(parameter)


def fill_uniform(parameter: nn.Parameter, bound: float, seed: int, name: str) -> None:
    """Fill with uniform values in ±bound that depend on (seed, name, shape) only."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    values = torch.empty(parameter.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
    with torch.no_grad():
        parameter.copy_(values)


def plain_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The weights of `module` under the names they have without LoRA, adapters merged in.

    W + (alpha/rank)·B·A is summed in float32 and rounded to W's dtype once. Untouched weights are not copied.
    """
    from peft.tuners.lora import Linear

    state: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        if ".lora_" in name:
            continue
        owner_name, base, parameter_name = name.rpartition(".base_layer.")
        if not base:
            state[name] = tensor
            continue
        owner = module.get_submodule(owner_name)
        assert isinstance(owner, Linear)
        merged = tensor
        if parameter_name == "weight":
            merged = (tensor.float() + owner.get_delta_weight(ADAPTER).detach()).to(tensor.dtype)
        state[f"{owner_name}.{parameter_name}"] = merged
    return state


def save_peft_adapter(backbone: nn.Module, config: LoRAConfig, base_name: str, directory: Path) -> None:
    """Write the adapters of a `...ForCausalLM` in PEFT's own format (`adapter_config.json`, safetensors)."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"base_model.model.{name.replace(f'.{ADAPTER}.', '.')}": parameter.detach().cpu().contiguous()
        for name, parameter in backbone.named_parameters()
        if ".lora_" in name
    }
    save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    written = peft_config(config)
    written.task_type = "CAUSAL_LM"
    written.base_model_name_or_path = base_name
    written.inference_mode = True
    if config.last_layers is not None:
        layers = {int(name.split(".layers.")[1].split(".")[0]) for name in tensors}
        written.layers_to_transform = sorted(layers)
        written.layers_pattern = "layers"
    written.save_pretrained(str(directory))


def peft_config(config: LoRAConfig) -> LoraConfig:
    """The same settings as peft spells them."""
    from peft import LoraConfig

    return LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[reportArgumentType]  # peft divides it, a float is as good
        lora_dropout=config.dropout,
        target_modules=sorted(config.target_modules),
        bias="none",
    )


def load_named_parameters(
    parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor], source: str
) -> None:
    """Copy `state` into `parameters` by name.

    Errors: `ModelError` naming the first missing, extra or wrong-shaped key. Nothing is copied unless everything fits.
    """
    if missing := sorted(parameters.keys() - state.keys()):
        raise ModelError(
            f"{source}: {len(missing)} tensors missing, first {missing[0]!r}; it is of another model"
        )
    if extra := sorted(state.keys() - parameters.keys()):
        raise ModelError(
            f"{source}: {len(extra)} tensors too many, first {extra[0]!r}; it is of another model"
        )
    for name in sorted(state):
        if state[name].shape != parameters[name].shape:
            found, wanted = tuple(state[name].shape), tuple(parameters[name].shape)
            raise ModelError(
                f"{source}: {name!r} has shape {found}, the model needs {wanted}; it is of another model"
            )
    with torch.no_grad():
        for name in sorted(state):
            parameters[name].copy_(state[name])
