"""Fingerprints of weights: equal content, equal hash, however the files are cut."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wmtp_ray.errors import ModelError

# What transformers writes into config.json about the writing, not about the model.
INCIDENTAL_KEYS = frozenset(
    {"transformers_version", "_name_or_path", "_model_name_or_path", "architectures", "use_cache"}
)


def tensors_fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 (hex) over (name, dtype, shape, bytes) of each tensor, in the order given."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    # numpy knows no bfloat16, but its bytes.
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def state_fingerprint(state: Mapping[str, Tensor]) -> str:
    """`tensors_fingerprint` of a state dict, by sorted name."""
    return tensors_fingerprint((name, state[name]) for name in sorted(state))


def model_fingerprint(directory: Path) -> str:
    """SHA-256 (hex) over configuration and weights of a model directory (extra MTP heads included).

    Independent of sharding, file names and the version of transformers that wrote the directory. Reads
    every weight once: about a second per GB. `ModelError` if there are no weights or one cannot be read.
    """
    files = sorted(directory.glob("*.safetensors")) + sorted(directory.glob("mtp/*.safetensors"))
    if not files:
        raise ModelError(f"model {directory} has no *.safetensors to fingerprint; convert or copy it again")
    try:
        config = json.loads((directory / "config.json").read_text())
        lines = []
        for file in files:
            part = "mtp/" if file.parent.name == "mtp" else ""
            with safe_open(file, framework="pt") as tensors:
                for name in list(tensors.keys()):
                    lines.append(f"{part}{name} {tensors_fingerprint([('', tensors.get_tensor(name))])}")
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise ModelError(f"model {directory} cannot be read ({error}); convert or copy it again") from error
    kept = {key: value for key, value in config.items() if key not in INCIDENTAL_KEYS}
    return hashlib.sha256("\n".join([json.dumps(kept, sort_keys=True), *sorted(lines)]).encode()).hexdigest()
