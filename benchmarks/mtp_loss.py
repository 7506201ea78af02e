"""Chunked MTP loss, forward and backward, against the definition on [B, T, K, V] and against one head's
logits at a time.

B=2, T=512, K=4, V=32000, D=1024, float32, half of the positions prompt; each contestant starts from the
heads' hidden states and ends with their gradients. The unembedding is frozen, as with LoRA, unless a figure
says that it trains. Part of the gain is arithmetic left out (prompt positions), part is memory not touched,
and on AMD processors part is oneDNN's product where plain torch takes MKL's (see
`wmtp_ray/losses/unembedding.py`).

Memory is the largest sum of live allocations that torch's own allocator records during a run (profiler
events, also within operators), with gradients of the inputs allocated before: what a run needs above inputs
and their gradients. Unlike the process's resident size it does not depend on what ran before or on other
processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile

from benchmarks.figure import Figure
from benchmarks.gae import fastest
from wmtp_ray.data.batch import IGNORED_LABEL
from wmtp_ray.losses import (
    align_weights,
    chunked_mtp_loss,
    compute_mtp_ce_loss,
    head_normalizers,
    mtp_targets,
)

B, T, K, V, D = 2, 512, 4, 32_000, 1024
REPEATS = 3


class Batch:
    """Inputs of all contestants, with their gradients allocated."""

    def __init__(self, unembedding_trains: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.randint(0, V, (B, T), generator=generator)
        self.labels[:, : T // 2] = IGNORED_LABEL
        self.weights = torch.rand(B, T, generator=generator) + 0.1
        self.hidden = [torch.randn(B, T, D, generator=generator).requires_grad_() for _ in range(K)]
        self.unembedding = (
            torch.randn(V, D, generator=generator).mul_(D**-0.5).requires_grad_(unembedding_trains)
        )
        self.targets = [mtp_targets(self.labels, None, k) for k in range(1, K + 1)]
        self.normalizers = head_normalizers(
            torch.stack([(t != IGNORED_LABEL).sum() for t in self.targets])
        ).tolist()
        self.zero_grad()

    def zero_grad(self) -> None:
        for leaf in [*self.hidden, self.unembedding]:
            if leaf.requires_grad:
                leaf.grad = torch.zeros_like(leaf)

    def head_weights(self, k: int) -> Tensor:
        return align_weights(self.weights, k, "target", None, self.labels)


def chunked(batch: Batch, heads: int = K) -> float:
    """The policy's loop: each head's backward before the next head's forward."""
    total = 0.0
    for k in range(1, heads + 1):
        found = chunked_mtp_loss(
            batch.hidden[k - 1],
            batch.unembedding,
            batch.targets[k - 1],
            batch.head_weights(k),
            normalizer=batch.normalizers[k - 1],
        )
        found.loss.backward()
        total += found.loss.item()
    return total


def naive(batch: Batch) -> float:
    """All heads' logits at once, by definition."""
    logits = torch.stack(batch.hidden, dim=2) @ batch.unembedding.t()
    loss = compute_mtp_ce_loss(logits, batch.labels, None, batch.weights).weighted
    loss.backward()
    return loss.item()


def per_head(batch: Batch) -> float:
    """One head's logits at all positions, its backward, then the next head's."""
    total = 0.0
    for k in range(1, K + 1):
        logits = (batch.hidden[k - 1] @ batch.unembedding.t()).flatten(0, 1)
        ce = cross_entropy(
            logits, batch.targets[k - 1].flatten(), ignore_index=IGNORED_LABEL, reduction="none"
        )
        loss = (ce * batch.head_weights(k).flatten()).sum() / batch.normalizers[k - 1]
        del logits
        loss.backward()
        total += loss.item()
    return total


def peak_extra_bytes(run: Callable[[], object]) -> int:
    """Largest sum of allocations, minus frees, since the start of the run."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    result = recorded.profiler.kineto_results if recorded.profiler is not None else None
    assert result is not None, "the profiler recorded nothing"
    changes = [e for e in result.events() if e.name() == "[memory]"]
    live = peak = 0
    for change in sorted(changes, key=lambda e: e.start_ns()):
        live += change.nbytes()  # pyright: ignore[reportAttributeAccessIssue] -- missing in torch's stub
        peak = max(peak, live)
    return peak


def figures() -> Iterator[Figure]:
    yield from _errors()
    batch = Batch()
    chunked_s, per_head_s, naive_s = fastest(
        [lambda: chunked(batch), lambda: per_head(batch), lambda: naive(batch)], REPEATS
    )
    chunked_mb, one_head_mb, per_head_mb, naive_mb = (
        peak_extra_bytes(run) / 1e6
        for run in (
            lambda: chunked(batch),
            lambda: chunked(batch, heads=1),
            lambda: per_head(batch),
            lambda: naive(batch),
        )
    )
    yield Figure(
        "mtp_loss_time_vs_naive",
        chunked_s / naive_s,
        "x time",
        counterpart=f"[B,T,K,V] logits {naive_s:.2f} s, ours {chunked_s:.2f} s",
        target="<= 0.35",
    )
    yield Figure(
        "mtp_loss_memory_vs_naive",
        chunked_mb / naive_mb,
        "x peak extra memory",
        counterpart=f"[B,T,K,V] logits {naive_mb:.0f} MB, ours {chunked_mb:.0f} MB",
        target="<= 0.06",
    )
    yield Figure(
        "mtp_loss_time_vs_per_head",
        chunked_s / per_head_s,
        "x time",
        counterpart=f"[B,T,V] logits per head {per_head_s:.2f} s",
        target="<= 0.6",
    )
    yield Figure(
        "mtp_loss_memory_vs_per_head",
        chunked_mb / per_head_mb,
        "x peak extra memory",
        counterpart=f"[B,T,V] logits per head {per_head_mb:.0f} MB",
        target="<= 0.112",
    )
    yield Figure(
        "mtp_loss_memory_k4_vs_k1",
        chunked_mb / one_head_mb,
        "x peak extra memory",
        counterpart=f"one head {one_head_mb:.1f} MB, four {chunked_mb:.1f} MB",
        target="<= 1.1",
    )
    yield from _unembedding_trains()


def _errors() -> Iterator[Figure]:
    """Head 1's loss and gradients at full size, float32, against the definition in float64."""
    batch = Batch(unembedding_trains=True)
    weight, hidden = (
        leaf.detach().double().requires_grad_() for leaf in (batch.unembedding, batch.hidden[0])
    )
    logits = (hidden @ weight.t()).unsqueeze(2)
    exact = compute_mtp_ce_loss(logits, batch.labels, None, batch.weights.double()).weighted
    wanted = [exact.detach(), *torch.autograd.grad(exact, [hidden, weight])]
    del logits, exact

    def error_of(loss: Tensor) -> float:
        found = [loss.detach(), *torch.autograd.grad(loss, [batch.hidden[0], batch.unembedding])]
        return max(float((f - w).abs().max() / w.abs().max()) for f, w in zip(found, wanted, strict=True))

    count = int((batch.targets[0] != IGNORED_LABEL).sum())
    logits = (batch.hidden[0] @ batch.unembedding.t()).unsqueeze(2)
    naive_error = error_of(compute_mtp_ce_loss(logits, batch.labels, None, batch.weights).weighted)
    del logits
    ours = chunked_mtp_loss(
        batch.hidden[0], batch.unembedding, batch.targets[0], batch.head_weights(1), normalizer=count
    )
    yield Figure(
        "mtp_loss_error",
        error_of(ours.loss),
        "relative to the largest entry",
        counterpart=f"float64 definition; float32 definition is off by {naive_error:.1e}",
        target="<= 1e-6",
    )


def _unembedding_trains() -> Iterator[Figure]:
    batch = Batch(unembedding_trains=True)
    chunked_s, naive_s = fastest([lambda: chunked(batch), lambda: naive(batch)], repeats=2)
    yield Figure(
        "mtp_loss_time_vs_naive_unembedding_trains",
        chunked_s / naive_s,
        "x time",
        counterpart=f"[B,T,K,V] logits {naive_s:.2f} s, ours {chunked_s:.2f} s",
        target="<= 0.35",
    )
    four, one = (peak_extra_bytes(lambda heads=heads: chunked(batch, heads)) / 1e6 for heads in (K, 1))
    yield Figure(
        "mtp_loss_memory_k4_vs_k1_unembedding_trains",
        four / one,
        "x peak extra memory",
        counterpart=f"one head {one:.1f} MB, four {four:.1f} MB",
        target="<= 1.1",
    )
