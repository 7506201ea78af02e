"""Side-by-side measurements: each module has `figures()`, which yields a `Figure` for each number.

    python -m benchmarks               # all, one JSON line per figure
    python -m benchmarks gae data      # these modules only
    make bench                         # all, and benchmarks/results.md

A counterpart runs in the same call, so that ratios survive a noisy machine. A module that needs something
this machine lacks raises `NotMeasured`, which says what.
"""
