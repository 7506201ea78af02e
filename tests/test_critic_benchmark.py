"""The split of student programs that the critic's benchmark trains and judges on."""

from __future__ import annotations

from benchmarks.critic import split_by_program
from wmtp_ray.data.near_duplicates import clusters, program_signatures
from wmtp_ray.data.records import Problem, Solution


def program(number: int, last_line: str) -> str:
    """Forty words of their own and a last line."""
    return "\n".join(f"value_{number}_{i} = step_{number}({i})" for i in range(40)) + f"\n{last_line}\n"


def test_near_duplicates_are_on_one_side_and_every_program_on_one() -> None:
    solutions = tuple(
        Solution(program(n // 3, f"return {n}"), is_correct=n % 2 == 0, provenance=str(n)) for n in range(90)
    )
    assert len(set(clusters(program_signatures([s.code for s in solutions]), 0.8))) == 30
    halves = split_by_program([Problem("p", "Do it.", solutions)], seed=0)
    assert [(half.problem_id, half.split) for half in halves] == [("p/train", "train"), ("p/valid", "valid")]
    train, valid = ([int(s.provenance) for s in half.solutions] for half in halves)
    assert sorted(train + valid) == list(range(90))
    assert len(valid) == 18
    assert not {n // 3 for n in train} & {n // 3 for n in valid}
    assert split_by_program([Problem("p", "Do it.", solutions)], seed=1)[1].solutions != halves[1].solutions
