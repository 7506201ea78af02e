"""The value model (critic): a decoder with one number per token, V_t = head(hidden_t), after reading token t.

On disk it is whole and checked, except for the frozen backbone, which is named and fingerprinted:

```
<directory>/  value_model.json        settings, fingerprints of backbone and tokenizer, training config
              head.safetensors        the value head, float32
              backbone.safetensors    what was trained of the backbone: adapters, or all weights; absent for head only
              manifest.json           written last
```
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wmtp_ray.config.model import DTypeName, ValueModelConfig
from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.errors import ModelError
from wmtp_ray.models.backbone import DTYPES, LayerRunner, load_backbone
from wmtp_ray.models.export import save_plain_model
from wmtp_ray.models.fingerprint import model_fingerprint, state_fingerprint
from wmtp_ray.models.lora import (
    adapted_layers,
    initialise_lora,
    inject_lora,
    load_named_parameters,
    plain_state_dict,
)
from wmtp_ray.models.resolve import resolve_model
from wmtp_ray.models.tokenizer import copy_tokenizer, load_tokenizer, tokenizer_fingerprint
from wmtp_ray.models.value_head import ValueHead
from wmtp_ray.storage.manifest import verify_manifest, write_manifest

KIND = "value_model"


class ValueModelCard(BaseModel):
    """Content of `value_model.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    config: ValueModelConfig
    backbone_fingerprint: str
    tokenizer_fingerprint: str
    training_config: dict[str, Any]


@dataclass(frozen=True)
class ParameterGroups:
    """Trainable parameters by the part they belong to: the two have learning rates of their own."""

    head: list[nn.Parameter]
    backbone: list[nn.Parameter]


class ValueModel(nn.Module):
    """Backbone (bare decoder) + value head. `values_RT = model(batch)`."""

    def __init__(self, config: ValueModelConfig, source: Path, seed: int) -> None:
        super().__init__()
        self.config = config
        self.source = source
        compute_dtype = DTYPES[config.dtype]
        base_dtype = torch.float32 if config.train == "all" else compute_dtype
        self.backbone = load_backbone(source, base_dtype, unembedding=False, num_layers=config.num_layers)
        self.backbone.requires_grad_(config.train == "all")
        self.runner = LayerRunner(self.backbone, compute_dtype, config.gradient_checkpointing)
        if config.train == "lora" and config.lora is not None:
            inject_lora(adapted_layers(self.runner.layers, config.lora), config.lora)
            initialise_lora(self, seed)
        width = self.backbone.config.hidden_size
        self.head = ValueHead(config.head, width, config.initial_bias, config.head_dropout, seed)
        self.eval()
        self._recorded_fingerprint: str | None = None
        self._trainable = tuple(name for name, p in self.named_parameters() if p.requires_grad)

    @classmethod
    def from_pretrained(
        cls, config: ValueModelConfig, path: Path | None = None, seed: int = 0, cache_dir: Path | None = None
    ) -> ValueModel:
        """An untrained critic on the model `config.name`, found at `path` (by default resolved here), in eval mode."""
        return cls(config, path or resolve_model(config.name, cache_dir), seed)

    def forward(self, batch: PackedBatch) -> Tensor:
        """Values [R, T], float32, after each token; those on padding mean nothing."""
        geometry = self.runner.geometry(batch)
        hidden_RTD = self.runner.run_stack(batch.input_ids, len(self.runner.layers), geometry)
        return self.head(self.runner.normed(hidden_RTD))

    def fix_offset(self) -> None:
        """Leave the bias of the value, of a `linear` or `mlp` head, as it is: for a loss into which only differences of
        values enter. Its gradient would be rounding noise, which AdamW scales up to whole steps."""
        if self.head.kind != "sigmoid":
            self.head.out.bias.requires_grad_(False)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes, by name; the same after `load`."""
        parameters = dict(self.named_parameters())
        return {name: parameters[name] for name in self._trainable}

    def parameter_groups(self) -> ParameterGroups:
        """Head and backbone parameters apart, for separate learning rates."""
        named = self.trainable_parameters().items()
        return ParameterGroups(
            head=[p for name, p in named if name.startswith("head.")],
            backbone=[p for name, p in named if not name.startswith("head.")],
        )

    def trainable_state_dict(self) -> dict[str, Tensor]:
        """The trained tensors (not copies): what a checkpoint keeps."""
        return {name: parameter.detach() for name, parameter in self.trainable_parameters().items()}

    def load_trainable_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load what `trainable_state_dict` gave; `ModelError` names a missing, extra or misshapen tensor."""
        load_named_parameters(self.trainable_parameters(), state, "value model checkpoint")

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that decides the values but dtype: backbone, trained tensors, settings.

        Computed anew on each call while it is trained (that reads the backbone's files); a loaded, frozen
        critic knows the recorded one.
        """
        if self._recorded_fingerprint and not any(p.requires_grad for p in self.parameters()):
            return self._recorded_fingerprint
        return self._fingerprint(model_fingerprint(self.source))

    def _fingerprint(self, backbone_fingerprint: str) -> str:
        settings = self.config.model_dump(mode="json", include={"head", "train", "lora"})
        if self.config.train != "lora":
            settings["lora"] = None
        if self.config.num_layers is not None:
            settings["num_layers"] = self.config.num_layers
        parts = [backbone_fingerprint, state_fingerprint(self.trainable_state_dict()), settings]
        return _sha256(parts)

    def save(self, directory: Path, training_config: BaseModel | Mapping[str, Any]) -> None:
        """Write the critic to `directory`, complete once the manifest is there (kind `value_model`)."""
        directory.mkdir(parents=True, exist_ok=True)
        training = (
            training_config.model_dump(mode="json")
            if isinstance(training_config, BaseModel)
            else training_config
        )
        card = ValueModelCard(
            config=self.config,
            backbone_fingerprint=model_fingerprint(self.source),
            tokenizer_fingerprint=tokenizer_fingerprint(load_tokenizer(self.source)),
            training_config=dict(training),
        )
        state = {name: tensor.cpu().contiguous() for name, tensor in self.trainable_state_dict().items()}
        head = {name: tensor for name, tensor in state.items() if name.startswith("head.")}
        backbone = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
        save_file(head, directory / "head.safetensors")
        (directory / "backbone.safetensors").unlink(missing_ok=True)
        if backbone:
            save_file(backbone, directory / "backbone.safetensors")
        (directory / "value_model.json").write_text(card.model_dump_json(indent=1))
        fingerprint = self._fingerprint(card.backbone_fingerprint)
        tokens = card.tokenizer_fingerprint
        write_manifest(directory, KIND, fingerprint=fingerprint, tokenizer_fingerprint=tokens)

    @classmethod
    def load(
        cls,
        directory: Path,
        *,
        backbone: Path | None = None,
        dtype: DTypeName | None = None,
        cache_dir: Path | None = None,
    ) -> ValueModel:
        """The critic written by `save`, frozen and in eval mode, on the CPU.

        `backbone` is its directory if it is no longer found by name; `dtype` overrides the one it was
        trained in.

        Errors: `StorageError` for a missing, incomplete or altered directory; `ModelError` if the
        backbone's or the tokenizer's fingerprint differs from the recorded one, or a tensor is missing,
        superfluous or of wrong shape.
        """
        manifest = verify_manifest(directory, KIND)
        card = read_card(directory)
        config = card.config if dtype is None else card.config.model_copy(update={"dtype": dtype})
        source = backbone or resolve_model(config.name, cache_dir)
        if model_fingerprint(source) != card.backbone_fingerprint:
            raise ModelError(
                f"value model {directory} was trained on another {config.name!r} than {source} "
                "(weights differ); give the directory of the original backbone"
            )
        if tokenizer_fingerprint(load_tokenizer(source)) != card.tokenizer_fingerprint:
            raise ModelError(
                f"value model {directory} was trained with another tokenizer than {source} has; restore it"
            )
        model = cls(config, source, seed=0)
        state = _read_tensors(directory / "head.safetensors")
        if config.train != "head":
            state |= _read_tensors(directory / "backbone.safetensors")
        load_named_parameters(model.trainable_parameters(), state, f"value model {directory}")
        # Frozen, it needs no float32 master weights; adapters and head stay float32.
        if config.train == "all":
            model.backbone.to(dtype=DTYPES[config.dtype])  # type: ignore[reportCallIssue]
        model._recorded_fingerprint = manifest.facts["fingerprint"]
        return model.requires_grad_(False).eval()

    def export_token_classification(self, directory: Path) -> None:
        """Write an `AutoModelForTokenClassification` whose one label has the logit V_t, adapters merged.

        vLLM serves it with `runner="pooling"` and `PoolerConfig(task="token_classify",
        use_activation=False)`. Equal values for a float32 critic; for a bfloat16 one the head is rounded to
        bfloat16 too.

        Errors: `ModelError` for `sigmoid` and `mlp` heads, which that class cannot express.
        """
        if self.config.head != "linear":
            raise ModelError(
                f"value head {self.config.head!r} cannot be exported as token classification, only 'linear'"
            )
        dtype = self.runner.compute_dtype
        state = {f"model.{name}": tensor for name, tensor in plain_state_dict(self.backbone).items()}
        state |= {"score.weight": self.head.out.weight, "score.bias": self.head.out.bias}
        config = copy.deepcopy(self.backbone.config)
        config.id2label, config.label2id = {0: "value"}, {"value": 0}
        save_plain_model(
            config, state, directory, dtype=dtype, auto_class=transformers.AutoModelForTokenClassification
        )
        copy_tokenizer(self.source, directory)


def read_card(directory: Path) -> ValueModelCard:
    """What `value_model.json` says: jobs compare the tokenizer's fingerprint before they load weights."""
    path = directory / "value_model.json"
    try:
        return ValueModelCard.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelError(f"{path} is missing or damaged ({error}); train the critic again") from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read ({error}); train the critic again") from error


def _sha256(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
