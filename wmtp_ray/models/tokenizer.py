"""Tokenizers: loading, and a fingerprint that says whether two models speak the same token ids."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import transformers

from wmtp_ray.errors import ModelError
from wmtp_ray.models.quiet import quiet_transformers

TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "*.jinja",
)


def load_tokenizer(directory: Path | str) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer of a resolved model directory; `ModelError` where there is none."""
    try:
        with quiet_transformers():
            return transformers.AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    except Exception as error:
        # The tokenizers library raises bare `Exception` for a damaged file; anything unforeseen
        # goes on as it is.
        if type(error) is not Exception and not isinstance(
            error, OSError | ValueError | KeyError | ImportError
        ):
            raise
        remedy = "put tokenizer.json (or tokenizer.model) beside config.json"
        raise ModelError(f"no usable tokenizer in {directory} ({error}); {remedy}") from error


def copy_tokenizer(source: Path, directory: Path) -> None:
    """Copy the tokenizer's files as they are; `ModelError` where there are none."""
    files = [path for pattern in TOKENIZER_FILES for path in source.glob(pattern)]
    if not files:
        raise ModelError(
            f"no tokenizer in {source}; put tokenizer.json (or tokenizer.model) beside config.json"
        )
    directory.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copyfile(path, directory / path.name)


def tokenizer_fingerprint(tokenizer: transformers.PreTrainedTokenizerBase) -> str:
    """SHA-256 (hex) over vocabulary with ids, merges in order, and the special tokens BOS, EOS and UNK.

    Equal fingerprints mean that every token id stands for the same text, so that a critic may read the ids
    a policy is trained on. The padding token is left out: Llama models often get one added by hand, and it
    is never read.
    """
    content = {
        "vocabulary": sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0])),
        "merges": _merges(tokenizer),
        "special": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id],
    }
    return hashlib.sha256(
        json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ).hexdigest()


def _merges(tokenizer: transformers.PreTrainedTokenizerBase) -> list[list[str]]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return []
    merges = json.loads(backend.to_str())["model"].get("merges") or []
    # Written as "a b" by old versions of tokenizers, as ["a", "b"] by new ones.
    return [merge.split(" ", 1) if isinstance(merge, str) else list(merge) for merge in merges]
