"""What is kept of one problem: the rules beyond those that `test_store` counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from wmtp_ray.data.prepared import PreparedProblem, Rules, prepare_problem
from wmtp_ray.data.records import Problem, Solution


def prepared(tokenizer: PreTrainedTokenizerFast, programs: list[str], **rules: object) -> PreparedProblem:
    problem = Problem("p", "Do it", tuple(Solution(code, True) for code in programs))
    return prepare_problem(problem, tokenizer, Rules(**{"max_length": 1000, **rules}))


def reasons(item: PreparedProblem) -> dict[str, str]:
    return {reject.place: reject.reason for reject in item.rejects}


HOSTILE = [
    "(" * 5000,
    "-" * 20_000 + "1",
    "1+" * 20_000 + "1",
    "x" + ".a" * 20_000,
    "9" * 5000,
    "'\\N{no such name}'",
    "\f\f\f(",
    "if x:\n\ty\n        z",
]


def test_parse_check(byte_tokenizer: PreTrainedTokenizerFast):
    programs = ["x = 1", "print 3", "x ==", "'\\d'", *HOSTILE]
    checked = prepared(byte_tokenizer, programs, parse_check=True)
    assert {"p#1", "p#2", "p#4"} <= reasons(checked).keys()
    assert set(reasons(checked).values()) == {"does_not_parse"}
    assert [s.code for s in checked.problem.solutions][:2] == ["x = 1", "'\\d'"]
    assert not prepared(byte_tokenizer, programs).rejects
    other = Problem("p", "", (Solution("puts 1 if", True, language="ruby"),))
    assert not prepare_problem(other, byte_tokenizer, Rules(1000, ("ruby",), parse_check=True)).rejects


def test_long_samples_are_cut_or_left_out(byte_tokenizer: PreTrainedTokenizerFast):
    prompt = len(byte_tokenizer("", add_special_tokens=False)["input_ids"])
    assert prompt == 0
    cut = prepared(byte_tokenizer, ["x", "y" * 2000])
    assert cut.truncated == 1 and cut.tokens[1] == 1000 and not cut.rejects
    assert cut.targets[1] == 1000 - (cut.tokens[0] - cut.targets[0])
    left_out = prepared(byte_tokenizer, ["x", "y" * 2000], too_long="reject")
    assert reasons(left_out) == {"p#1": "too_long"}
    assert left_out.truncated == 0 and left_out.tokens.tolist() == cut.tokens[:1].tolist()


@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_near_duplicates_are_kept_and_numbered(byte_tokenizer: PreTrainedTokenizerFast, threshold: float):
    program = "\n".join(f"value_{i} = compute({i})" for i in range(60))
    item = prepared(
        byte_tokenizer,
        [program, "x = 1", program + "\nprint(one, more, line)" * 10, program],
        max_length=4000,
        near_duplicate=threshold,
    )
    assert reasons(item) == {"p#3": "duplicate"}
    assert item.clusters.tolist() == ([0, 1, 0] if threshold < 1 else [0, 1, 2])


texts = st.sampled_from(["", " ", "x = 1", "x =", "a\0", "\ud800", "é" * 300, "y" * 3000, "z = 2\n"])
solutions = st.lists(
    st.builds(Solution, texts, st.booleans(), language=st.sampled_from(["python3", "cpp"])), max_size=8
)


@given(texts, texts, solutions, st.sampled_from([60, 200, 500]), st.booleans())
def test_every_row_is_kept_or_rejected_once(
    byte_tokenizer: PreTrainedTokenizerFast,
    problem_id: str,
    statement: str,
    rows: list[Solution],
    max_length: int,
    parse_check: bool,
):
    rules = Rules(max_length, max_bytes=1000, parse_check=parse_check, too_long="reject")
    item = prepare_problem(Problem(problem_id, statement, tuple(rows)), byte_tokenizer, rules)
    of_rows = [reject for reject in item.rejects if reject.rows]
    assert item.rows_in == len(rows) == len(item.problem.solutions) + len(of_rows)
    rejected = {int(reject.place.rpartition("#")[2]) for reject in of_rows}
    assert len(rejected) == len(of_rows)
    unusable = statement in ("a\0", "\ud800") or problem_id in ("a\0", "\ud800")
    assert len(item.rejects) - len(of_rows) == (not rows and unusable)  # the problem itself
    assert item.problem.solutions == tuple(row for n, row in enumerate(rows) if n not in rejected)
    kept = len(item.problem.solutions)
    assert item.tokens.shape == item.targets.shape == item.clusters.shape == (kept,)
    assert (item.tokens <= max_length).all() and (item.targets > 0).all()
