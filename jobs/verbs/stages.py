"""``run``, ``prepare``, ``train``, ``evaluate``: submit a stage's job, or attach to its job."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from cluster import client
from cluster.attach import connect
from cluster.connection import Connection
from cluster.follow import follow as follow_job
from cluster.request import INTERRUPTED, Request, WrongRequestError
from cluster.spec import Spec
from cluster.staging import SPEC_FILE
from cluster.storage import Storage, StorageError, open_storage
from jobs.bundles import resolve
from jobs.domains import suffixes_of
from jobs.prepared import held_back_split
from jobs.runs import Run, latest_checkpoint, publish_metrics, stage_digest
from jobs.stages import find_data_digest, prepare_digest, train_digest
from jobs.starts import pinned
from jobs.submissions import submit, under_way
from jobs.uploads import send_data, travel
from jobs.verbs.screen import Screen

ENDS = {"FAILED": "failed", "STOPPED": "was stopped", "RUNNING": "lost its cluster"}
STAGES = ("prepare", "train", "evaluate")


def run(request: Request, models: list[str] | None, until: str, again: bool) -> int:
    """Bring every model, or those named, up to a stage."""
    if until not in STAGES:
        raise WrongRequestError(f"--until {until}: there are {', '.join(STAGES)}")
    spec = request.spec()
    names = models or list(spec.models)
    for name in names:
        spec.model(name)
    results: list[dict[str, Any]] = []
    code = 0
    for name in names:
        _tell_of_later(request, spec, name)
        code = code or _bring(request, spec, name, until, again, results)
    request.answer({"runs": results} if len(names) != 1 else results[0] if results else {})
    return code


def _tell_of_later(request: Request, spec: Spec, name: str) -> None:
    """Name the sections that are checked but not acted on yet."""
    model = spec.model(name)
    later = [key for key in ("tune", "promote", "serve") if getattr(model, key) is not None]
    if later:
        request.say(f"models.{name}: {', '.join(later)} checked, but not run by this version")


def prepare(request: Request, model: str) -> int:
    """Prepare one model's data."""
    return run(request, [model], "prepare", False)


def train(request: Request, model: str, again: bool) -> int:
    """Train one model."""
    return run(request, [model], "train", again)


def evaluate(request: Request, model: str, data: str | None) -> int:
    """Score a version on the cluster, on held-back data or on ``data``."""
    spec = request.spec()
    spec.model(model.partition("@")[0])
    storage = open_storage(spec.cluster.storage, spec.name)
    version = resolve(storage, model)
    if data is not None:
        suffixes = suffixes_of(version.bundle["domain"], version.bundle["task"])
        data = send_data(storage, data, suffixes, request.say, request.yes)
    digest = stage_digest({"stage": "evaluate", "version": version.name, "data": data or "held"})
    results: list[dict[str, Any]] = []
    stage_run = Run.open(storage, version.model, "evaluate", digest, again=True)
    arguments = ["jobs.evaluate", SPEC_FILE, version.name, "--run", stage_run.id]
    code = _work(request, spec, stage_run, arguments + (["--data", data] if data else []), results)
    found = stage_run.result()
    if found is not None:
        request.answer({key: found.get(key) for key in ("model", "version", "metrics", "count")})
    elif results:
        request.answer(results[0])
    return code


def _bring(
    request: Request,
    spec: Spec,
    name: str,
    until: str,
    again: bool,
    results: list[dict[str, Any]],
) -> int:
    """Run one model's stages up to ``until``; what is done is skipped."""
    storage = open_storage(spec.cluster.storage, spec.name)
    storage.check()
    spec = pinned(spec, name, storage)
    data = find_data_digest(spec.model(name), request.say, storage)
    spec = travel(spec, name, storage, request.say, request.yes)
    if until == "prepare":
        stage_run = Run.open(storage, name, "prepare", prepare_digest(data))
    else:
        digest = train_digest(spec.model(name), data)
        stage_run = Run.open(storage, name, "train", digest, again)
    if _is_done(storage, stage_run, until):
        more = "" if until == "prepare" else "; --again trains it once more"
        request.say(f"{stage_run.id}: done already{more}")
        results.append(describe(stage_run))
        _show(request, stage_run, metrics=True)
        return 0
    arguments = ["jobs.pretrain", SPEC_FILE, name, "--until", until, "--run", stage_run.id]
    return _work(request, spec, stage_run, arguments, results)


def _is_done(storage: Storage, stage_run: Run, until: str) -> bool:
    result = stage_run.result()
    if result is None or until != "evaluate":
        return result is not None
    version = resolve(storage, f"{stage_run.info()['model']}@{result['version']}")
    manifest = storage.read_json(f"data/{version.bundle['data']}/manifest.json")
    return version.held_back is not None or held_back_split(manifest) is None


def _work(
    request: Request,
    spec: Spec,
    stage_run: Run,
    arguments: list[str],
    results: list[dict[str, Any]],
) -> int:
    """Start or join the run's job and follow it to its end."""
    connection = connect(spec, request.say)
    job = under_way(connection, stage_run)
    if job is not None:
        request.say(f"{job} is under way; attached to it (Ctrl-C detaches)")
    else:
        job = submit(connection, spec, stage_run, arguments)
        request.say(f"submitted {job} (Ctrl-C detaches, the job goes on)")
    if request.detach:
        request.say(f"slipway logs -f {stage_run.id} shows how it goes on")
        results.append(describe(stage_run, "running"))
        return 0
    try:
        state = follow(request, connection, job)
    except KeyboardInterrupt:
        request.say(
            f"\ndetached; {stage_run.id} goes on. slipway logs -f {stage_run.id} re-attaches, "
            f"slipway stop {stage_run.id} ends it"
        )
        sys.exit(INTERRUPTED)
    if state.status != "SUCCEEDED":
        raise ValueError(f"{stage_run.id} {ENDS[state.status]}; {_way_on(stage_run)}")
    results.append(describe(stage_run))
    _show(request, stage_run, metrics=False)
    return 0


def _way_on(stage_run: Run) -> str:
    """What to type after a run that did not succeed."""
    saved = latest_checkpoint(stage_run)
    again = f"; the same command again resumes from step {saved.step}" if saved else ""
    return f"slipway logs {stage_run.id} shows all of its output{again}"


def follow(request: Request, connection: Connection, job: str) -> client.JobState:
    """Show a job's progress until it ends."""
    with Screen(request) as screen:
        for piece in follow_job(connection, job):
            screen.feed(piece)
        state = client.wait(connection, job, timeout_s=10)
        if state.status != "SUCCEEDED":
            screen.show_failure(state.message)
    return state


def describe(run: Run, status: str | None = None) -> dict[str, Any]:
    """What ``--json`` prints of a stage."""
    result = run.result() or {}
    if not result:  # under way, or cut off: what the path shows is as old as this line
        with contextlib.suppress(StorageError):
            publish_metrics(run)
    return {
        "run": run.id,
        "status": status or ("complete" if result else "interrupted"),
        "version": result.get("version"),
        "metrics": result.get("metrics", {}),
        "path": run.storage.url(f"{run.path}/metrics.jsonl"),
    }


def _show(request: Request, run: Run, metrics: bool) -> None:
    """Say where a training's version lies and what to type next."""
    info, result = run.info(), run.result() or {}
    if info["stage"] != "train" or "version" not in result:
        return
    storage, name = run.storage, info["model"]
    version = resolve(storage, f"{name}@{result['version']}")
    request.say(f"\n{version.name} is a version: {storage.url(version.path)}")
    if metrics and version.held_back is not None:
        values = version.held_back["metrics"].items()
        text = ", ".join(f"{key} {value:.4g}" for key, value in values)
        request.say(f"  on {version.held_back['split']}: {text}")
    request.say(f"  its run: {storage.url(run.path)}")
    request.say(f'next: slipway predict {name} "..."   or: slipway models')
