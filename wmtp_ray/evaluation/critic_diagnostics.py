"""What a critic's held-out pairs say about it: where it is right, whether its margins mean what they promise, and
whether its values fall where a program goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import transformers
from pydantic import TypeAdapter

from wmtp_ray.data.prompt import encode_text, eos_id
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.evaluation.statistics import Estimate, share_interval
from wmtp_ray.training.held_out import HeldOutPair
from wmtp_ray.value_weighting.audit import AuditedTokens, Localisation, localisation
from wmtp_ray.value_weighting.token_classes import mutated_tokens

LENGTH_BINS = (-50, -10, -2, 3, 11, 51)
"""Where bins of (correct − incorrect) response tokens begin; the first reaches down without end."""
LENGTH_NAMES = (
    *("shorter by 51 or more", "shorter by 11 to 50", "shorter by 3 to 10", "within 2"),
    *("longer by 3 to 10", "longer by 11 to 50", "longer by 51 or more"),
)
CONFIDENCE_BINS = 5


@dataclass(frozen=True)
class Share:
    """Pairs of one kind, and the share that the critic ranks right, with its 95% Wilson interval."""

    name: str
    pairs: int
    right: Estimate


@dataclass(frozen=True)
class Confidence:
    """Pairs of about one confidence: predicted and observed share ranked right."""

    predicted: float
    """Mean of σ(|v̄ − v̄'|), the probability that a ranking critic gives to the side it prefers."""
    observed: Share


@dataclass(frozen=True)
class CriticDiagnostics:
    """Of one critic, on held-out pairs."""

    step: int
    """After which the pairs were scored."""
    whole: Share
    ties: int
    """Pairs of equal means, which count as not right."""
    by_length: tuple[Share, ...]
    by_difficulty: tuple[Share, ...]
    calibration: tuple[Confidence, ...]
    """By confidence; none for a critic that was not trained to rank."""
    located: Localisation | None
    """None where no incorrect program has a known mutation."""

    def to_json(self) -> str:
        """Indented JSON."""
        return _CONTENT.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str) -> CriticDiagnostics:
        """Inverse of `to_json`."""
        return _CONTENT.validate_json(text)


_CONTENT = TypeAdapter(CriticDiagnostics)


def diagnose(
    step: int,
    pairs: Sequence[HeldOutPair],
    store: SolutionStore,
    tokenizer: transformers.PreTrainedTokenizerBase,
    ranking: bool = True,
) -> CriticDiagnostics:
    """Join `pairs`, at least one, with what the store knows of their rows. Only the margins of a `ranking` critic are
    log-odds, so only they are calibrated."""
    margins_P = np.array([pair.margin for pair in pairs])
    longer_P = np.array([pair.tokens[0] - pair.tokens[1] for pair in pairs])
    difficulty_P = store.index.difficulty[store.index.row_problem[[pair.rows[0] for pair in pairs]]]
    right_P = margins_P > 0

    def shares(group_P: np.ndarray, name: Callable[[int], str]) -> tuple[Share, ...]:
        return tuple(_share(name(group), right_P[group_P == group]) for group in np.unique(group_P).tolist())

    return CriticDiagnostics(
        step=step,
        whole=_share("all", right_P),
        ties=int((margins_P == 0).sum()),
        by_length=shares(np.digitize(longer_P, LENGTH_BINS), lambda bin: LENGTH_NAMES[bin]),
        by_difficulty=shares(difficulty_P, lambda level: f"difficulty {level}" if level else "unknown"),
        calibration=tuple(_calibration(margins_P)) if ranking else (),
        located=_localisation(pairs, store, tokenizer),
    )


def _share(name: str, right: np.ndarray) -> Share:
    return Share(name, right.size, share_interval(int(right.sum()), right.size))


def _calibration(margins_P: np.ndarray) -> Iterable[Confidence]:
    """Equally filled bins by confidence; ties prefer no side and are left out."""
    margins_P = margins_P[margins_P != 0]
    order = np.argsort(np.abs(margins_P), kind="stable")
    for bin_P in np.array_split(margins_P[order], min(CONFIDENCE_BINS, max(1, margins_P.size // 8))):
        if bin_P.size:
            predicted = float(np.mean(1 / (1 + np.exp(-np.abs(bin_P)))))
            yield Confidence(predicted, _share(f"{predicted:.2f}", bin_P > 0))


def _localisation(
    pairs: Sequence[HeldOutPair], store: SolutionStore, tokenizer: transformers.PreTrainedTokenizerBase
) -> Localisation | None:
    """−δ at mutated tokens, over the different incorrect programs."""
    values = {pair.rows[1]: np.array(pair.incorrect_values) for pair in pairs}
    known = [row for row in store.read(list(values)) if row.mutated_span is not None]
    eos = eos_id(tokenizer)
    columns: list[list[np.ndarray]] = [[], [], [], [], []]
    for number, row in enumerate(known):
        own = values[row.row]
        ids = [*encode_text(tokenizer, [row.output])[0], eos][: own.size]
        assert row.mutated_span is not None
        parts = (
            np.full(own.size, number),
            np.arange(own.size) / max(own.size - 1, 1),
            np.array(ids) == eos,
            mutated_tokens(tokenizer, ids, row.mutated_span, eos),
            np.diff(own, prepend=own[0]),
        )
        for column, part in zip(columns, parts, strict=True):
            column.append(part)
    if not known:
        return None
    program_N, place_N, eos_N, mutated_N, delta_N = map(np.concatenate, columns)
    tokens = AuditedTokens(program_N, np.zeros_like(program_N), place_N, eos_N, mutated_N)
    return localisation(delta_N, tokens) if mutated_N.any() else None
