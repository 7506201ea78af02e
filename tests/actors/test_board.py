"""The board forgets workers that are no more."""

from __future__ import annotations

from actors.board import PoolBoard, WorkerLoad


def load(waited: float, *names: str) -> WorkerLoad:
    return WorkerLoad(waited, dict.fromkeys(names, 1), names)


def test_a_restarted_worker_replaces_its_report() -> None:
    board = PoolBoard()
    board.report(0, 1, load(5.0, "a", "b"))
    assert board.report(0, 1, load(0.0, "a")) == ()
    assert board.post(("a",)) == {0: load(0.0, "a")}
    assert board.report(0, 1, load(0.1, "a")) == ("a",)


def test_an_actor_counts_as_called_until_no_unread_answer_names_it() -> None:
    board = PoolBoard()
    board.post(("a", "b"))
    assert board.report(0, 1, load(0.0, "a")) == ("a", "b")
    assert board.post(("a",))[0].names == ("a", "b")
    assert board.report(0, 1, load(0.0, "a", "b")) == ("a",)
    assert board.post(("a",))[0].names == ("a", "b")
    board.report(0, 1, load(0.0, "a"))
    assert board.post(("a",))[0].names == ("a",)


def test_a_smaller_group_ends_the_reports_of_the_others() -> None:
    board = PoolBoard()
    for rank in range(3):
        board.report(rank, 3, load(1.0, "a", "b"))
    board.report(1, 2, load(0.0, "a"))
    assert board.post(("a",)) == {0: load(1.0, "a", "b"), 1: load(0.0, "a")}
    board.report(0, 2, load(0.0, "a"))
    assert board.post(("a",)) == {0: load(0.0, "a"), 1: load(0.0, "a")}
