"""Extra MTP heads on disk, beside a plain model.

```
<directory>/  config.json  model.safetensors  tokenizer.json ...   head 1, all that others see
              mtp/mtp.json  mtp/heads.safetensors               heads 2..K,
              "0.self_attn.q_proj.weight", ...
```
The heads lie in a folder of their own because vLLM reads every `*.safetensors` beside `config.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wmtp_ray.errors import ModelError
from wmtp_ray.models.lora import load_named_parameters

FOLDER = "mtp"


class MTPDirectory(BaseModel):
    """Content of `mtp.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    num_heads: PositiveInt


def stored_num_heads(directory: Path) -> int | None:
    """K of a directory with extra heads, None for a plain model; `ModelError` if `mtp.json` is damaged."""
    path = directory / FOLDER / "mtp.json"
    if not path.is_file():
        return None
    try:
        return MTPDirectory.model_validate_json(path.read_bytes()).num_heads
    except ValidationError as error:
        raise ModelError(
            f"{path} is damaged ({error.error_count()} errors); convert or export the model again"
        ) from error


def write_extra_heads(directory: Path, heads: Sequence[Mapping[str, Tensor]]) -> None:
    """Write heads 2..K (none for K = 1), each a state dict of one decoder layer."""
    folder = directory / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{i}.{name}": t.detach().cpu().contiguous()
        for i, head in enumerate(heads)
        for name, t in head.items()
    }
    save_file(tensors, folder / "heads.safetensors", metadata={"format": "pt"})
    (folder / "mtp.json").write_text(json.dumps({"num_heads": len(heads) + 1}))


def read_extra_heads(directory: Path, heads: nn.ModuleList) -> None:
    """Load the first `len(heads)` stored heads into `heads`; a plain model leaves them as they are.

    Errors: `ModelError` naming a missing, extra or wrong-shaped tensor.
    """
    stored = stored_num_heads(directory)
    if stored is None or not len(heads):
        return
    path = directory / FOLDER / "heads.safetensors"
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read ({error}); convert or export the model again") from error
    dropped = tuple(f"{number}." for number in range(len(heads), stored - 1))
    wanted = {name: tensor for name, tensor in tensors.items() if not name.startswith(dropped)}
    load_named_parameters(dict(heads.named_parameters()), wanted, str(path))
