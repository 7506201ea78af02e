"""Train the value model (critic) by pairwise ranking of correct above incorrect solutions of the same problem.

Departs from the seed: value heads and adapters are float32, pairs are packed, the loss does not depend on how a step is
cut into micro-batches or workers, and the share of the accuracy that length alone explains is reported beside it.

    python jobs/critic.py --config configs/quickstart/critic.yaml storage.root=/data/wmtp
    ray job submit --working-dir . -- python jobs/critic.py --config configs/production/critic.yaml
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from wmtp_ray.cluster.job import run_training_job
from wmtp_ray.config import CriticJobConfig
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.storage.runs import RunDirectory
from wmtp_ray.training.batch import MicroBatch
from wmtp_ray.training.critic_objective import RankingObjective


@dataclass(frozen=True)
class CriticSide:
    """The critic's part inside a worker."""

    config: CriticJobConfig

    def build(self, device: torch.device) -> RankingObjective:
        """An untrained value model and its ranking loss."""
        cache = self.config.storage.root / "models"
        model = ValueModel.from_pretrained(self.config.model, seed=self.config.seed, cache_dir=cache)
        return RankingObjective(model.to(device), device)

    def export(self, objective: RankingObjective, run: RunDirectory, held_out: list[MicroBatch]) -> None:
        """The critic as policies and the service load it."""
        objective.model.save(run.export, self.config)


def run(config: CriticJobConfig, flags: Flags) -> None:
    """Train and export the critic that `config` describes."""
    run_training_job("critic", config, CriticSide(config), flags)


if __name__ == "__main__":
    run_command(CriticJobConfig, run, __doc__)
