"""Hugging Face directories whose weights are torch files (`pytorch_model*.bin`) become the same in safetensors."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import transformers

from wmtp_ray.errors import ModelError
from wmtp_ray.models.quiet import quiet_transformers
from wmtp_ray.models.tokenizer import copy_tokenizer
from wmtp_ray.storage.manifest import sha256_of_file

TORCH_WEIGHTS = "pytorch_model*.bin"


def torch_weights_fingerprint(directory: Path) -> str:
    """SHA-256 (hex) over `config.json` and the weight files."""
    files = [directory / "config.json", *sorted(directory.glob(TORCH_WEIGHTS))]
    return hashlib.sha256("".join(map(sha256_of_file, files)).encode()).hexdigest()


def convert_torch_weights(source: Path, directory: Path) -> None:
    """Write the model of `source` to `directory`, in the dtype that it has, and its tokenizer beside it.

    The files are read as weights only, so they cannot run code. `ModelError` where they hold anything else, or not all
    weights of the model.
    """
    try:
        with quiet_transformers():
            model, info = transformers.AutoModelForCausalLM.from_pretrained(  # type: ignore[reportGeneralTypeIssues]
                source, dtype="auto", use_safetensors=False, output_loading_info=True
            )
    except pickle.UnpicklingError as error:  # torch's own text recommends to let the file run code
        raise ModelError(
            f"model {source}: {TORCH_WEIGHTS} hold more than weights, or are damaged; copy it again"
        ) from error
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        raise ModelError(f"model {source} cannot be loaded ({error}); copy it again") from error
    for what in ("missing", "unexpected"):
        if names := info[f"{what}_keys"]:
            raise ModelError(
                f"model {source}: {len(names)} weights {what}, first {min(names)!r}; copy it again"
            )
    with quiet_transformers():
        model.save_pretrained(directory, max_shard_size="5GB")
    copy_tokenizer(source, directory)
