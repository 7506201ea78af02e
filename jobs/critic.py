"""Train the value model (critic) on correct and incorrect solutions of the same problem, by ranking or λ-return.

Unlike the proposal: value heads and adapters are float32, pairs are packed, the loss does not depend on how a step is
cut into micro-batches or workers, and the share of the accuracy that length alone explains is reported beside it. With
`objective.pairs: step` all programs of a problem in a step are compared, not the planned pairs alone. With `folds: F`
it trains F critics, each without one fold of the problems (runs `critic-NAME-without-f-of-F`), so that a policy's
training problems can be scored by a critic that has not seen them.

    python jobs/critic.py --config configs/quickstart/critic.yaml storage.root=/data/wmtp
    ray job submit --working-dir . -- python jobs/critic.py --config configs/production/critic.yaml
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from wmtp_ray.cluster.job import run_training_job
from wmtp_ray.config import CriticJobConfig
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.config.critic import LambdaReturnConfig
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import Plan
from wmtp_ray.data.store import SolutionStore, store_path
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.storage.runs import RunDirectory, run_path
from wmtp_ray.training.critic_objective import LambdaReturnObjective, RankingObjective
from wmtp_ray.training.step_ranking_objective import StepRankingObjective


@dataclass(frozen=True)
class CriticSide:
    """The critic's part inside a worker."""

    config: CriticJobConfig

    def build(self, device: torch.device, backbone: Path) -> RankingObjective:
        """An untrained value model and its loss."""
        config = self.config
        model = ValueModel.from_pretrained(config.model, backbone, seed=config.seed).to(device)
        shuffle_seed = config.seed if config.objective.shuffle_labels else None
        if isinstance(config.objective, LambdaReturnConfig):
            run = RunDirectory(run_path(config.storage.root, "critic", config.name))
            num_steps = Plan.load(run.plan).num_steps
            return LambdaReturnObjective(model, device, config.objective, num_steps, shuffle_seed)
        if config.objective.pairs == "step":
            store = SolutionStore.open(store_path(config.storage.root, config.data.store), check="sizes")
            row_problem = store.index.row_problem
            return StepRankingObjective(model, device, row_problem, config.seed, shuffle_seed)
        return RankingObjective(model, device, shuffle_seed)

    def export(self, objective: RankingObjective, run: RunDirectory, held_out: Iterator[MicroBatch]) -> None:
        """The critic as policies and the service load it."""
        objective.model.save(run.export, self.config)


def run(config: CriticJobConfig, flags: Flags) -> None:
    """Train and export the critic that `config` describes, or one for each fold."""
    if config.folds and flags.fresh and not flags.dry_run:
        for part in config.by_fold():  # first, lest a later start take an old fold for a new one
            RunDirectory(run_path(part.storage.root, "critic", part.name)).move_aside()
        flags = replace(flags, fresh=False)
    for part in config.by_fold():
        run_training_job("critic", part, CriticSide(part), flags)


if __name__ == "__main__":
    run_command(CriticJobConfig, run, __doc__)
