"""Runs that go on from another's checkpoint."""

from __future__ import annotations

import json

import pytest

from cluster.storage import Storage
from jobs.forks import Origin, fork_digest, open_fork, origin_of
from jobs.runs import Run, checkpoints, joined_metrics, latest_checkpoint

DIGEST = "a" * 64


def parent_run(storage: Storage) -> Run:
    run = Run.open(storage, "m", "train", "b" * 64)
    number = run.next_attempt({"resumes": None})
    lines = "".join(json.dumps({"step": step, "loss": 1.0 / step}) + "\n" for step in (1, 2, 3, 4))
    storage.write(f"{run.path}/{number}/metrics.jsonl", lines.encode())
    for step in (2, 4):
        path = f"{run.path}/{number}/checkpoints/step-{step:06d}"
        storage.write(f"{path}/state/weights", b"w%d" % step)
        files = {"state/weights": {"sha256": "?", "size": 2}}
        manifest = {"step": step, "files": files, "metric": 0.5, "progress": [0.5, 0]}
        storage.write_json(f"{path}/manifest.json", manifest)
    return run


def test_a_fork_begins_with_the_checkpoint_and_the_curve_up_to_it(storage: Storage) -> None:
    parent = parent_run(storage)
    run = open_fork(storage, "m", DIGEST, Origin(parent.id, 2))
    last = latest_checkpoint(run)
    assert last is not None
    assert last.step == 2
    assert storage.read(f"{last.path}/state/weights") == b"w2"
    assert [line["step"] for line in joined_metrics(run)] == [1, 2]
    assert origin_of(run) == Origin(parent.id, 2)
    assert run.info()["digest"] == fork_digest(DIGEST, Origin(parent.id, 2)) != DIGEST
    storage.delete_tree(parent.path)
    again = open_fork(storage, "m", DIGEST, Origin(parent.id, 2))
    assert again.id == run.id
    assert len(again.attempts()) == 1
    assert origin_of(parent_run(storage)) is None


def test_a_copy_that_was_cut_off_is_made_anew(storage: Storage) -> None:
    parent, origin = parent_run(storage), None
    origin = Origin(parent.id, 2)
    run = open_fork(storage, "m", DIGEST, origin)
    [copied] = checkpoints(run)
    storage.delete(f"{copied.path}/manifest.json")
    assert latest_checkpoint(open_fork(storage, "m", DIGEST, origin)) is not None


def test_a_checkpoint_that_is_gone(storage: Storage) -> None:
    parent = parent_run(storage)
    with pytest.raises(ValueError, match=r"no checkpoint of step 3 any more"):
        open_fork(storage, "m", DIGEST, Origin(parent.id, 3))
