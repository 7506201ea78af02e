"""What a job needs of a cluster, and what is said where it is not there."""

from __future__ import annotations

import pytest

from wmtp_ray.cluster.connect import connected
from wmtp_ray.cluster.resources import largest, rooms, times, total
from wmtp_ray.errors import InfraError


def test_amounts_add_up_by_name():
    worker, critic = {"CPU": 1.0, "GPU": 2.0}, {"CPU": 0.5, "licence": 1.0}
    assert total(times(3, worker), critic) == {"CPU": 3.5, "GPU": 6.0, "licence": 1.0}
    assert largest(worker, critic) == {"CPU": 1.0, "GPU": 2.0, "licence": 1.0}


@pytest.mark.parametrize(
    ("each", "expected"),
    [({"CPU": 2.0}, 4), ({"CPU": 2.0, "GPU": 1.5}, 2), ({"CPU": 1.0, "GPU": 0.0}, 8), ({"licence": 1.0}, 0)],
)
def test_rooms_are_bounded_by_the_scarcest(each, expected):
    assert rooms({"CPU": 8.0, "GPU": 3.0}, each) == expected


def test_a_job_that_can_never_be_placed_is_refused():
    with (
        pytest.raises(InfraError, match="needs 2 of the resource licence and the cluster has 0"),
        connected({"CPU": 1, "licence": 2}),
    ):
        pass
