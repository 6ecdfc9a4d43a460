"""``run``, ``prepare``, ``train``, ``evaluate``: submit a stage's job, or attach to its job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from cluster.request import Request, WrongRequestError
from cluster.spec import Spec
from cluster.staging import SPEC_FILE
from cluster.storage import Storage, open_storage
from jobs.bundles import Version, resolve
from jobs.domains import suffixes_of
from jobs.forecast import Needs, forecast
from jobs.prepared import held_back_split, prepared_rows
from jobs.promotion import is_judged, unscored
from jobs.runs import Run, stage_digest
from jobs.stages import find_data_digest, prepare_digest, sweep_digest, train_digest
from jobs.starts import pinned
from jobs.uploads import send_data, travel
from jobs.verbs.apart import check_ephemeral
from jobs.verbs.plan_price import describe as describe_cost
from jobs.verbs.promotions import settle
from jobs.verbs.work import describe, show, work

STAGES = ("prepare", "train", "evaluate", "promote", "serve")


Takes = Callable[[Spec, str, Storage, str], Needs]
"""What a model's work takes: of its spec, name, storage and data's digest."""


def training(spec: Spec, name: str, storage: Storage, data: str) -> Needs:
    """What one training takes."""
    found = forecast(spec, name, storage, data, prepared_rows(storage, data))
    return Needs(found.workers, describe_cost(found))


def run(
    request: Request,
    models: list[str] | None,
    until: str,
    again: bool,
    ephemeral: bool = False,
    search: bool = True,
    takes: Takes = training,
) -> int:
    """Bring every model, or those named, up to a stage; ``search`` where there is `tune:`.

    A gate that says no ends its model's way, not the others', and is the exit code.
    """
    if until not in STAGES:
        raise WrongRequestError(f"--until {until}: there are {', '.join(STAGES)}")
    spec = request.spec()
    if ephemeral:
        request = replace(request, ephemeral=True)
        check_ephemeral(spec)
    names = models or list(spec.models)
    for name in names:
        spec.model(name)
    results: list[dict[str, Any]] = []
    code = 0
    for name in names:
        searches = spec.model(name).tune is not None and search
        code = _bring(request, spec, name, until, again, results, searches, takes) or code
    request.answer({"runs": results} if len(names) != 1 else results[0] if results else {})
    return code


def prepare(request: Request, model: str) -> int:
    """Prepare one model's data."""
    return run(request, [model], "prepare", False)


def train(request: Request, model: str, again: bool, ephemeral: bool = False) -> int:
    """Train one model."""
    return run(request, [model], "train", again, ephemeral, search=False)


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
    code = work(request, spec, stage_run, arguments + (["--data", data] if data else []), results)
    found = stage_run.result()
    if found is not None:
        keys = ("model", "version", "split", "metrics", "intervals", "count", "records", "baseline")
        answer = {key: found.get(key) for key in keys}
        request.answer(answer | {"report": storage.url(found["report"])})
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
    searches: bool,
    takes: Takes,
) -> int:
    """Run one model's stages up to ``until``; what is done is skipped.

    Services are for all models together, and come after them.
    """
    until = "promote" if until == "serve" else until
    storage = open_storage(spec.cluster.storage, spec.name)
    storage.check()
    spec = pinned(spec, name, storage)
    data = find_data_digest(spec.model(name), request.say, storage)
    spec = travel(spec, name, storage, request.say, request.yes)
    if until == "prepare":
        stage_run = Run.open(storage, name, "prepare", prepare_digest(data))
    elif searches:
        stage_run = Run.open(storage, name, "tune", sweep_digest(spec.model(name), data), again)
    else:
        digest = train_digest(spec.model(name), data)
        stage_run = Run.open(storage, name, "train", digest, again)
    version = _done(storage, stage_run, until, spec)
    if version is not None or (until == "prepare" and stage_run.result() is not None):
        more = "" if until == "prepare" else "; --again does it once more"
        request.say(f"{stage_run.id}: done already{more}")
        gate = spec.model(name).promote if until == "promote" else None
        code = settle(request, spec, version, gate, stage_run.id) if version and gate else 0
        results.append(describe(stage_run))
        show(request, stage_run, metrics=True)
        return code
    program = "tune.sweep" if stage_run.info()["stage"] == "tune" else "jobs.pretrain"
    arguments = [program, SPEC_FILE, name, "--until", until, "--run", stage_run.id]
    if again and program == "tune.sweep":  # nor does it take over what an earlier one found
        arguments.append("--again")
    said = partial(takes, spec, name, storage, data)
    return work(request, spec, stage_run, arguments, results, said)


def _done(storage: Storage, stage_run: Run, until: str, spec: Spec) -> Version | None:
    """The version of a training for which no job is needed any more."""
    result = stage_run.result()
    if result is None or until == "prepare":
        return None
    version = resolve(storage, f"{stage_run.info()['model']}@{result['version']}")
    if until == "train":
        return version
    manifest = storage.read_json(f"data/{version.bundle['data']}/manifest.json")
    if version.held_back is None and held_back_split(manifest) is not None:
        return None
    gate = spec.model(version.model).promote if until == "promote" else None
    if gate and not is_judged(storage, version, gate) and unscored(storage, version, gate):
        return None
    return version
