"""Parts of an unfinished prepare: whole ones count, others never do, and another recipe's are gone."""

from __future__ import annotations

import pickle
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from tests.data.stores import synthetic_problems
from wmtp_ray.data.parts import Parts
from wmtp_ray.data.prepared import PreparedProblem, Rules, prepare_problem
from wmtp_ray.data.records import Reject
from wmtp_ray.data.splits import place
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.data.writer import StoreWriter, write_store


def fill(parts: Parts, part: int, prepared: list[PreparedProblem]) -> None:
    for item in prepared[part * 5 : part * 5 + 5]:
        parts.append(part, pickle.dumps(item), pickle.dumps(item.kinship))
    parts.append(part, pickle.dumps(Reject(f"part {part}", "bad_json")), b"")


def test_interrupted_anywhere_the_store_is_the_same(tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast):
    problems = synthetic_problems(20)
    prepared = [prepare_problem(problem, byte_tokenizer, Rules(400)) for problem in problems]
    parts = Parts(tmp_path / "parts", "key", 5)
    assert parts.missing() == [0, 1, 2, 3, 4]
    for part in (0, 2):
        fill(parts, part, prepared)
        parts.complete(part)
    parts.complete(4)  # has no items
    fill(parts, 1, prepared)  # the process ends here

    parts = Parts(tmp_path / "parts", "key", 5)
    assert parts.missing() == [1, 3]
    for part in (1, 3):
        fill(parts, part, prepared)
        parts.complete(part)
    assert parts.missing() == []
    with StoreWriter(tmp_path / "s") as writer:
        placements = place(list(parts.kinships()), 0.8)
        counts = writer.add_all(parts.items(), placements).finish(source="x", max_length=400)

    def in_order():
        for part in range(4):
            yield from problems[part * 5 : part * 5 + 5]
            yield Reject(f"part {part}", "bad_json")

    whole = write_store(
        tmp_path / "t", in_order(), byte_tokenizer, 400, source="x", tokenizer_fingerprint="t"
    )
    assert counts == whole
    stores = [SolutionStore.open(tmp_path / name) for name in ("s", "t")]
    assert stores[0].manifest.files == stores[1].manifest.files

    assert Parts(tmp_path / "parts", "another key", 5).missing() == [0, 1, 2, 3, 4]
    parts.remove()
    assert not (tmp_path / "parts").exists()
