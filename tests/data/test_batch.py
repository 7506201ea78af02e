"""Packing: nothing lost, nothing mixed, labels unshifted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_ray.data.batch import pack
from wmtp_ray.data.prompt import TokenizedSample

PAD = 9999


def sample(sample_id: int, prompt: int, response: int) -> TokenizedSample:
    ids = 100 * (sample_id + 1) + np.arange(prompt + response, dtype=np.int32)
    return TokenizedSample(sample_id=sample_id, token_ids=ids, response_start=prompt, truncated=False)


lengths = st.tuples(st.integers(1, 6), st.integers(1, 6))


@settings(deadline=None, max_examples=80)
@given(st.lists(st.lists(lengths, min_size=1, max_size=4), min_size=1, max_size=4))
def test_every_sample_comes_back(shape: list[list[tuple[int, int]]]):
    counter = iter(range(100))
    rows = [[sample(next(counter), p, r) for p, r in row] for row in shape]
    batch = pack(rows, PAD)
    assert batch.shape == (len(rows), max(sum(p + r for p, r in row) for row in shape))
    assert batch.sample_ids.tolist() == [s.sample_id for row in rows for s in row]
    for r, row in enumerate(rows):
        for segment, expected in enumerate(row):
            at = batch.segment_ids[r] == segment
            assert batch.input_ids[r][at].tolist() == expected.token_ids.tolist()
            assert batch.position_ids[r][at].tolist() == list(range(len(expected.token_ids)))
            labels = batch.labels[r][at].tolist()
            assert labels[: expected.response_start] == [-100] * expected.response_start
            assert labels[expected.response_start :] == expected.token_ids[expected.response_start :].tolist()
        padding = batch.segment_ids[r] == -1
        assert (batch.input_ids[r][padding] == PAD).all()
        assert (batch.labels[r][padding] == -100).all()
        assert batch.position_ids[r][padding].tolist() == list(range(int(padding.sum())))
    assert torch.equal(batch.response_mask, batch.labels != -100)
    tensors = (batch.input_ids, batch.position_ids, batch.segment_ids, batch.labels, batch.sample_ids)
    assert all(t.dtype == torch.int64 for t in tensors)


def test_docstring_example():
    batch = pack([[sample(0, 2, 2), sample(1, 1, 1)]], PAD)
    assert batch.segment_ids.tolist() == [[0, 0, 0, 0, 1, 1]]
    assert batch.labels.tolist() == [[-100, -100, 102, 103, -100, 201]]


def test_to_device_keeps_everything():
    batch = pack([[sample(0, 2, 2)]], PAD)
    assert torch.equal(batch.to("cpu").labels, batch.labels)


@pytest.mark.parametrize("rows", [[], [[]], [[sample(0, 1, 1)], []]])
def test_empty_rows_are_refused(rows: list[list[TokenizedSample]]):
    with pytest.raises(ValueError, match="at least one"):
        pack(rows, PAD)
