"""Objectives: the weighted MTP loss (by definition, and in chunks for training), pairwise ranking,
λ-return.
"""

from wmtp_ray.losses.chunked import ChunkedLoss, chunked_cross_entropy, chunked_mtp_loss
from wmtp_ray.losses.lambda_return import (
    LambdaSchedule,
    RegressionLoss,
    lambda_return_losses,
    lambda_return_targets,
)
from wmtp_ray.losses.mtp import (
    MTPLoss,
    WeightAlignment,
    align_weights,
    compute_mtp_ce_loss,
    compute_mtp_ce_loss_unweighted,
    head_normalizers,
    mtp_targets,
)
from wmtp_ray.losses.ranking import RankingStatistics, pairwise_ranking_loss, ranking_loss_from_means
from wmtp_ray.losses.segments import SegmentMeans, segment_index, segment_means, spread_over_segments

__all__ = [
    "ChunkedLoss",
    "LambdaSchedule",
    "MTPLoss",
    "RankingStatistics",
    "RegressionLoss",
    "SegmentMeans",
    "WeightAlignment",
    "align_weights",
    "chunked_cross_entropy",
    "chunked_mtp_loss",
    "compute_mtp_ce_loss",
    "compute_mtp_ce_loss_unweighted",
    "head_normalizers",
    "lambda_return_losses",
    "lambda_return_targets",
    "mtp_targets",
    "pairwise_ranking_loss",
    "ranking_loss_from_means",
    "segment_index",
    "segment_means",
    "spread_over_segments",
]
