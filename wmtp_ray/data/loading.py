"""From a planned micro-batch to its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wmtp_ray.data.batch import PackedBatch, pack
from wmtp_ray.data.planned import PlannedMicroBatch
from wmtp_ray.data.prompt import pad_token_id, tokenize_sample
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_micro_batch(
    store: SolutionStore, tokenizer: PreTrainedTokenizerBase, planned: PlannedMicroBatch
) -> PackedBatch:
    """Read, tokenise and pack one planned micro-batch.

    `DataError` names the sample whose token counts are not the plan's (another tokenizer, another store).
    """
    texts = iter(store.read(planned.rows))
    expected = iter(zip(planned.tokens.tolist(), planned.targets.tolist(), strict=True))
    packed_rows = []
    for packed_row in planned.packed_rows:
        samples = []
        for _ in packed_row:
            text = next(texts)
            sample = tokenize_sample(
                tokenizer,
                sample_id=text.row,
                instruction=text.instruction,
                input=text.input,
                output=text.output,
                max_length=store.max_length,
            )
            found, planned_counts = (len(sample.token_ids), sample.num_targets), next(expected)
            if found != planned_counts:
                raise DataError(
                    f"sample {text.row} has {found} tokens and targets, the plan says {planned_counts}; plan "
                    f"and tokenizer must belong to store {store.path}"
                )
            samples.append(sample)
        packed_rows.append(samples)
    return pack(packed_rows, pad_id=pad_token_id(tokenizer))
