"""What an audit knows of each response token before any critic has said anything of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import transformers

from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.prompt import eos_id
from wmtp_ray.data.segments import segments_of
from wmtp_ray.data.store import Row, SolutionStore
from wmtp_ray.value_weighting.audit import AuditedTokens
from wmtp_ray.value_weighting.token_classes import mutated_tokens, token_cells


def audited_tokens(
    batches: list[MicroBatch], store: SolutionStore, tokenizer: transformers.PreTrainedTokenizerBase
) -> AuditedTokens:
    """Class, place, EOS and known mutations of every response token, in the order of micro-batches and samples."""
    eos = eos_id(tokenizer)
    columns: list[list[np.ndarray]] = [[], [], [], [], []]
    rows: Iterator[Row] = (row for m in batches for row in store.read(m.batch.sample_ids.numpy()))
    number = 0
    for m in batches:
        cells_RT = token_cells(tokenizer, m.batch, eos)
        for segment in segments_of(m.batch):
            ids = m.batch.input_ids[segment.row, segment.response].numpy()
            mutated = np.zeros(ids.size, dtype=bool)
            if (span := next(rows).mutated_span) is not None:
                mutated = mutated_tokens(tokenizer, ids.tolist(), span, eos)
            parts = (
                np.full(ids.size, number),
                cells_RT[segment.row, segment.response].numpy(),
                np.arange(ids.size) / max(ids.size - 1, 1),
                ids == eos,
                mutated,
            )
            for column, part in zip(columns, parts, strict=True):
                column.append(part)
            number += 1
    return AuditedTokens(*(np.concatenate(column) for column in columns))
