"""The generator behind dropout, seeded for each micro-batch: neither the workers nor a resume change what it draws."""

from __future__ import annotations

import hashlib

import torch


def seed_generators(seed: int, step: int, number: int) -> None:
    """Seed PyTorch's generators of all devices for micro-batch `number` of optimizer step `step` (from 0)."""
    digest = hashlib.sha256(repr((seed, step, number)).encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
