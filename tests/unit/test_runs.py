"""Ids that never collide, attempts that fence out zombies, metrics and checkpoints that count."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from cluster.storage import Storage, open_storage
from jobs.runs import (
    Run,
    checkpoints,
    joined_metrics,
    latest_checkpoint,
    list_runs,
    publish_metrics,
    stage_digest,
)

DIGEST = "7f3a" + "0" * 60


def log(run: Run, attempt: int, *steps: int, loss: float = 0.0) -> None:
    lines = [json.dumps({"step": step, "loss": loss, "by": attempt}) for step in steps]
    run.storage.write(f"{run.path}/{attempt}/metrics.jsonl", "\n".join(lines).encode())


def save(run: Run, attempt: int, step: int) -> None:
    folder = f"{run.path}/{attempt}/checkpoints/step-{step:06d}"
    run.storage.write_json(f"{folder}/manifest.json", {"step": step, "files": {}})


def test_digest_is_of_the_value_not_the_spelling() -> None:
    assert stage_digest({"a": 1, "b": [0.1, "é"]}) == stage_digest({"b": [0.1, "é"], "a": 1})
    assert stage_digest({"a": 1}) != stage_digest({"a": 2})
    with pytest.raises(ValueError, match="JSON compliant"):
        stage_digest({"a": float("nan")})


def test_ids(storage: Storage) -> None:
    run = Run.open(storage, "tickets", "train", DIGEST)
    assert run.id == "tickets-train-7f3a"
    assert Run.open(storage, "tickets", "train", DIGEST) == run
    alike = Run.open(storage, "tickets", "train", "7f3a1" + "0" * 59)
    assert alike.id == "tickets-train-7f3a1"
    again = Run.open(storage, "tickets", "train", DIGEST, again=True)
    assert again.id == "tickets-train-7f3a-2"
    assert Run.open(storage, "tickets", "train", DIGEST) == again
    assert [r.id for r in list_runs(storage)] == sorted({run.id, alike.id, again.id})
    assert run.info()["digest"] == DIGEST
    assert "@" in run.info()["owner"]


def test_unknown_run(storage: Storage) -> None:
    Run.open(storage, "tickets", "train", DIGEST)
    with pytest.raises(ValueError, match="no run 'x'; there are: tickets-train-7f3a"):
        Run(storage, "x").info()


def test_attempts_race(storage: Storage) -> None:
    run = Run.open(storage, "m", "train", DIGEST)
    numbers: list[int] = []
    start = threading.Barrier(4)

    def attempt() -> None:
        start.wait()
        numbers.append(run.next_attempt({"resumes": None}))

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == [1, 2, 3, 4] == [a.number for a in run.attempts()]


def test_states(storage: Storage) -> None:
    run = Run.open(storage, "m", "train", DIGEST)
    assert run.state(lambda attempt: True) == "interrupted"
    first = run.next_attempt({})
    assert run.state(lambda attempt: attempt.number == first) == "running"
    assert run.state(lambda attempt: False) == "interrupted"
    run.fail(first, "out of memory")
    assert run.state(lambda attempt: True) == "failed"
    assert (run.end() or {})["reason"] == "out of memory"
    second = run.next_attempt({})
    run.stopped(second, "by ann@laptop")
    assert run.state(lambda attempt: True) == "stopped"
    third = run.next_attempt({})
    assert run.finish({"version": 3}) == {"version": 3, "attempt": third}
    assert run.finish({"version": 4}) == {"version": 3, "attempt": third}
    assert run.state(lambda attempt: False) == "complete"


def test_a_zombies_result_does_not_count(storage: Storage) -> None:
    run = Run.open(storage, "m", "train", DIGEST)
    first, _ = run.next_attempt({}), run.next_attempt({})
    run.finish({"version": 1}, first)
    assert run.result() is None


@pytest.fixture
def resumed(local_address: Any) -> Run:
    """1 saved 10, 20 and died at 25; 2 resumed 20, died before a save; 3 resumed 20 again."""
    run = Run.open(open_storage(local_address, "acme"), "m", "train", DIGEST)
    run.next_attempt({})
    log(run, 1, *range(1, 26))
    save(run, 1, 10)
    save(run, 1, 20)
    assert run.next_attempt({}) == 2
    log(run, 2, *range(21, 28))
    assert run.next_attempt({}) == 3
    log(run, 3, *range(21, 24), 22)
    return run


def test_resumes_is_filled_in(resumed: Run) -> None:
    origin = {"attempt": 1, "step": 20}
    assert [a.info["resumes"] for a in resumed.attempts()] == [None, origin, origin]


def test_joined_metrics(resumed: Run) -> None:
    by = {line["step"]: line["by"] for line in joined_metrics(resumed)}
    assert by == {**dict.fromkeys(range(1, 21), 1), **dict.fromkeys(range(21, 24), 3)}
    assert list(by) == sorted(by)


def test_published_metrics_are_the_joined_ones(resumed: Run) -> None:
    path = publish_metrics(resumed)
    assert path == resumed.storage.url(f"{resumed.path}/metrics.jsonl")
    text = resumed.storage.read(f"{resumed.path}/metrics.jsonl").decode()
    assert [json.loads(line) for line in text.splitlines()] == joined_metrics(resumed)
    resumed.next_attempt({"resumes": None})
    assert publish_metrics(resumed) is None


def test_half_written_line_is_skipped(resumed: Run) -> None:
    path = f"{resumed.path}/3/metrics.jsonl"
    resumed.storage.write(path, b'{"step": 21}\n[]\n{"step": "x"}\n{"step": 22, "lo')
    assert [line["step"] for line in joined_metrics(resumed)] == list(range(1, 22))


def test_what_zombies_publish_is_ignored(resumed: Run) -> None:
    before = joined_metrics(resumed), checkpoints(resumed)
    log(resumed, 2, *range(1, 40))
    save(resumed, 2, 30)
    save(resumed, 1, 30)
    lines = [json.dumps(line) for line in before[0] if line["by"] == 1]
    lines += [json.dumps({"step": 30, "by": 1})]
    resumed.storage.write(f"{resumed.path}/1/metrics.jsonl", "\n".join(lines).encode())
    assert (joined_metrics(resumed), checkpoints(resumed)) == before


def test_checkpoints(resumed: Run) -> None:
    assert [(c.attempt, c.step) for c in checkpoints(resumed)] == [(1, 10), (1, 20)]
    save(resumed, 3, 30)
    resumed.storage.write(f"{resumed.path}/3/checkpoints/step-000040/weights", b"no manifest yet")
    resumed.storage.write(f"{resumed.path}/3/checkpoints/step-000050/manifest.json", b'{"st')
    last = latest_checkpoint(resumed)
    assert last is not None
    assert (last.attempt, last.step, last.manifest) == (3, 30, {"step": 30, "files": {}})
    assert last.path == "runs/m-train-7f3a/3/checkpoints/step-000030"


def test_a_start_from_nothing_leaves_all_behind(resumed: Run) -> None:
    resumed.next_attempt({"resumes": None})
    assert joined_metrics(resumed) == []
    assert latest_checkpoint(resumed) is None
