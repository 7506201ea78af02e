"""Models: the MTP policy and the value model on Llama, Qwen and Mistral decoders, and their file formats."""

from wmtp_ray.models.fingerprint import model_fingerprint
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.models.resolve import resolve_model
from wmtp_ray.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from wmtp_ray.models.value_model import ValueModel, read_card

__all__ = [
    "MTPPolicy",
    "ValueModel",
    "load_tokenizer",
    "model_fingerprint",
    "read_card",
    "resolve_model",
    "tokenizer_fingerprint",
]
