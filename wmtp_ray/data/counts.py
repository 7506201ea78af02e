"""What became of the rows of a source: counts that a store's manifest records and that add up."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class StoreCounts:
    """Rows in = rows kept + rows rejected."""

    rows_in: int
    rows_kept: int
    rows_correct: int
    rows_truncated: int
    problems_in: int
    problems_kept: int
    problems_with_both: int
    """Problems with correct and incorrect rows."""
    rows_near_duplicate: int
    """Rows of a cluster, but the first."""
    problems_near_duplicate: int
    rejected: dict[str, int] = field(default_factory=dict)
    """Rows by reason."""

    def line(self) -> str:
        """The one line that a job prints."""
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(self.rejected.items()))
        return (
            f"{self.rows_in:,} rows in = {self.rows_kept:,} kept + {sum(self.rejected.values()):,} rejected"
            + (f" ({reasons})" if reasons else "")
            + f"; {self.rows_correct:,} correct, {self.rows_kept - self.rows_correct:,} incorrect, "
            f"{self.rows_truncated:,} truncated, {self.rows_near_duplicate:,} near-duplicates; "
            f"{self.problems_kept:,} problems, {self.problems_with_both:,} with both sides, "
            f"{self.problems_near_duplicate:,} near-duplicates"
        )
