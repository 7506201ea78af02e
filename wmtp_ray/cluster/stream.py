"""Ray Data feeds each worker its share of every step, read, tokenised and packed off the training process.

One execution per worker covers all remaining steps. Its rows are in plan order, one row = this rank's micro-batches of
one optimizer step (micro-batch m of a step belongs to rank m mod world_size), so nothing has to be split or
equalised between workers and a restart simply builds the rest of the stream anew. Read tasks carry row numbers only.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path

import pyarrow as pa
import ray
import transformers
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from actors.answers import own_errors
from wmtp_ray.config.run import ClusterConfig
from wmtp_ray.data.loading import load_micro_batch
from wmtp_ray.data.micro_batch import MicroBatch, Need
from wmtp_ray.data.plan import Plan, PlannedMicroBatch
from wmtp_ray.data.prompt import eos_id
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.models.tokenizer import load_tokenizer
from wmtp_ray.value_weighting.token_classes import token_cells

Share = tuple[int, list[tuple[int, PlannedMicroBatch]]]
"""A step and one rank's micro-batches of it, by number."""
GetTokenizer = Callable[[], transformers.PreTrainedTokenizerBase]
"""Gives a task the tokenizer."""


def shares_of(plan: Plan, first_step: int, rank: int, world_size: int) -> list[Share]:
    """What `rank` computes of every step from `first_step` on; a step may leave a rank with nothing."""
    return [
        (
            step,
            [
                (m, planned)
                for m, planned in enumerate(plan.step(step).micro_batches)
                if m % world_size == rank
            ],
        )
        for step in range(first_step, plan.num_steps)
    ]


class ShareSource(Datasource):
    """Reads one rank's shares, `steps_per_read` to a task; with `cells`, also each token's class and place."""

    def __init__(
        self,
        shares: list[Share],
        store: Path,
        tokenizer: GetTokenizer,
        steps_per_read: int,
        cells: bool = False,
    ) -> None:
        self._groups = [shares[i : i + steps_per_read] for i in range(0, len(shares), steps_per_read)]
        self._store, self._tokenizer, self._cells = store, tokenizer, cells

    @property
    def num_tasks(self) -> int:
        """Read tasks, each of which makes one block."""
        return len(self._groups)

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown before reading."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: object = None
    ) -> list[ReadTask]:
        """One task per group of steps, whatever `parallelism` asks for: the order of rows is the plan's."""
        return [self._task(group, per_task_row_limit) for group in self._groups]

    def _task(self, group: list[Share], row_limit: int | None) -> ReadTask:
        store, tokenizer, cells = self._store, self._tokenizer, self._cells
        metadata = BlockMetadata(num_rows=len(group), size_bytes=None, input_files=None, exec_stats=None)
        return ReadTask(
            lambda: [_read(group, store, tokenizer, cells)], metadata, per_task_row_limit=row_limit
        )


@lru_cache(maxsize=2)
def fetched(tokenizer: ray.ObjectRef) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer behind the reference, once in a process.

    Tasks get it pickled: to find the class of one in a directory, transformers imports all that models generate with,
    which takes longer than many a task.
    """
    return ray.get(tokenizer)


@lru_cache(maxsize=2)
def _opened(store: Path) -> SolutionStore:
    return SolutionStore.open(store, check="sizes")  # the driver checked the hashes


def _read(group: list[Share], store_path: Path, get_tokenizer: GetTokenizer, cells: bool) -> pa.Table:
    store, tokenizer = _opened(store_path), get_tokenizer()

    def load(number: int, planned: PlannedMicroBatch) -> MicroBatch:
        batch = load_micro_batch(store, tokenizer, planned)
        cells_RT = token_cells(tokenizer, batch, eos_id(tokenizer)) if cells else None
        return MicroBatch(number, planned, batch, token_cells_RT=cells_RT)

    shares = [[load(number, planned) for number, planned in micro_batches] for _, micro_batches in group]
    return pa.table({"step": [step for step, _ in group], "share": [pickle.dumps(share) for share in shares]})


class PlanStream:
    """A worker's iterator over its micro-batches, step by step, in plan order. `needs` are the objective's; of them it
    brings `token_cells`, which take the tokenizer and nothing else."""

    def __init__(
        self,
        store: Path,
        tokenizer: Path,
        rank: int,
        world_size: int,
        cluster: ClusterConfig,
        needs: frozenset[Need] = frozenset(),
    ) -> None:
        self._store, self._tokenizer = store, partial(fetched, ray.put(load_tokenizer(tokenizer)))
        self._rank, self._world_size = rank, world_size
        self._cluster = cluster
        self._cells = "token_cells" in needs

    def __call__(self, plan: Plan, first_step: int) -> Iterator[list[MicroBatch]]:
        """This rank's micro-batches of step `first_step`, of the next step, ... to the plan's end."""
        shares = shares_of(plan, first_step, self._rank, self._world_size)
        if not shares:
            return
        reads = self._cluster.steps_per_read
        source = ShareSource(shares, self._store, self._tokenizer, reads, self._cells)
        rows = ray.data.read_datasource(
            source,
            num_cpus=self._cluster.read_cpus,
            concurrency=self._cluster.read_tasks,
            override_num_blocks=source.num_tasks,
        ).iter_rows()
        with own_errors():
            for (expected, _), row in zip(shares, rows, strict=True):
                if row["step"] != expected:
                    raise RuntimeError(
                        f"the stream gave step {row['step']} where the plan has step {expected}"
                    )
                yield pickle.loads(row["share"])


def configure_streams() -> None:
    """Settings of Ray Data that the promises of the plan rest on; call once in a process before streaming."""
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.max_errored_blocks = 0
    context.enable_progress_bars = False
    context.print_on_execution_start = False
