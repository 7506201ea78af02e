"""The mini data set: how long it takes to make and label, and what layout alone tells of its labels.

The classifier is a logistic regression on layout features, judged on problems that it was not fitted on. `centred`
takes each problem's mean away first, which is what a pair of one problem shows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.figure import Figure
from wmtp_ray.data.records import Problem
from wmtp_ray.data.sources.mini import MiniSource
from wmtp_ray.data.sources.mini.style import StyleTable, shorter_wins, style_table

WORKERS = 2


def layout_auroc(table: StyleTable, features_NF: np.ndarray) -> float:
    """Area under the ROC curve of the classifier, 5 folds by problem: 0.5 says that it knows nothing."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    scores_N2 = cross_val_predict(
        model,
        features_NF,
        table.is_correct_N,
        groups=table.problem_N,
        cv=GroupKFold(5),
        method="predict_proba",
    )
    return float(roc_auc_score(table.is_correct_N, np.asarray(scores_N2)[:, 1]))


def make_problem(name: str) -> Problem:
    """One labelled problem."""
    [problem] = MiniSource().problems(name)
    return problem


def make_all() -> list[Problem]:
    """The whole data set, labelled in two processes."""
    with ProcessPoolExecutor(WORKERS) as pool:
        return list(pool.map(make_problem, MiniSource().partitions(), chunksize=4))


def figures() -> Iterator[Figure]:
    start = time.perf_counter()
    problems = make_all()
    seconds = time.perf_counter() - start
    programs = sum(len(problem.solutions) for problem in problems)
    correct = sum(solution.is_correct for problem in problems for solution in problem.solutions)
    contents = f"{len(problems)} problems, {correct} correct and {programs - correct} incorrect programs"
    yield Figure("mini_seconds", seconds, f"s on {WORKERS} processes", contents, "<= 100")
    table = style_table(problems)
    yield Figure(
        "mini_layout_auroc", layout_auroc(table, table.features_NF), "AUROC", "chance 0.5", "0.45..0.55"
    )
    centred = layout_auroc(table, table.centred())
    yield Figure("mini_layout_auroc_centred", centred, "AUROC", "chance 0.5", "0.45..0.55")
    yield Figure("mini_shorter_wins", shorter_wins(problems), "share of pairs", "chance 0.5", "0.46..0.54")
