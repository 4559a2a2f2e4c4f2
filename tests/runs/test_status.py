"""How far a run is, as a value."""

import time

import pytest

from crystalgan.runs.status import START_SECONDS, Status


@pytest.mark.parametrize(
    ("stored", "share"),
    [
        ({"state": "running"}, 0),
        ({"state": "running", "epochs": [10, 30], "step": 1, "epoch": 5}, 1 / 8),
        ({"state": "stopped", "epochs": [10, 30], "step": 2, "epoch": 10}, 1 / 2),
        ({"state": "finished"}, 1),
        ({"state": "stopped", "epochs": None, "step": None, "of another version": 3}, 0),
    ],
)
def test_share_done(stored, share):
    assert Status.of(stored).share_done == pytest.approx(share)


def test_a_process_that_starts_has_a_minute_to_take_the_lock():
    now = time.time()
    assert not Status("starting", updated=now).is_overdue
    assert Status("starting", updated=now - START_SECONDS).is_overdue
    assert Status("running", updated=now).is_overdue
    assert not Status("finished", updated=0).is_overdue
