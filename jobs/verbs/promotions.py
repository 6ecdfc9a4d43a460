"""``promote``, ``rollback``: which version an alias names, through the gate and back without it."""

from __future__ import annotations

from typing import Any

from cluster.notices import notify
from cluster.request import REFUSED, Request
from cluster.spec import Spec
from cluster.spec.serving import PromoteSpec
from cluster.staging import SPEC_FILE
from cluster.storage import Storage, open_storage
from jobs.bundles import Version, resolve
from jobs.promotion import Decision, is_judged, roll_back
from jobs.promotion import promote as judge
from jobs.runs import Run, stage_digest
from jobs.verbs.work import work


def promote(request: Request, model: str, to: str | None) -> int:
    """Bring a version before the gate; exit code 3 where it says no."""
    spec = request.spec()
    gate = spec.model(model.partition("@")[0]).promote or PromoteSpec()
    if to is not None:
        gate = gate.model_copy(update={"to": to})
    storage = open_storage(spec.cluster.storage, spec.name)
    decision = _judged(request, spec, resolve(storage, model), gate, "slipway promote")
    request.answer(decision.as_dict(), "\n".join(decision.lines()))
    return 0 if decision.holds else REFUSED


def settle(request: Request, spec: Spec, version: Version, gate: PromoteSpec, run: str) -> int:
    """The stage ``promote`` of a run whose evaluations are there already."""
    storage = open_storage(spec.cluster.storage, spec.name)
    if is_judged(storage, version, gate) and gate.to not in version.aliases:
        request.say(f"{version.name} became {gate.to} before, under this gate")
        return 0
    decision = _judged(request, spec, version, gate, run)
    request.say("\n".join(decision.lines()))
    return 0 if decision.holds else REFUSED


def _judged(
    request: Request, spec: Spec, version: Version, gate: PromoteSpec, why: str
) -> Decision:
    storage = open_storage(spec.cluster.storage, spec.name)

    def evaluated(candidate: Version, other: Version) -> None:
        request.say(f"{candidate.name} is scored on the held-back data of {other.name} first")
        _evaluate(request, spec, storage, candidate, other)

    decision = judge(storage, version, gate, evaluated, why)
    if decision.holds and not decision.held:
        notify(spec, "promoted", decision.lines()[0], report=request.say)
    return decision


def _evaluate(
    request: Request, spec: Spec, storage: Storage, version: Version, like: Version
) -> None:
    """Score a version on the cluster, to the end: a decision waits for it."""
    parts = {"stage": "evaluate", "version": version.name, "data": like.bundle["data"]}
    run = Run.open(storage, version.model, "evaluate", stage_digest(parts), again=True)
    arguments = ["jobs.evaluate", SPEC_FILE, version.name, "--like", like.name, "--run", run.id]
    results: list[dict[str, Any]] = []
    work(request, spec, run, arguments, results)
    if run.result() is None:
        raise ValueError(f"{run.id} goes on; promote again when it has ended")


def rollback(request: Request, model: str, version: str | None, reason: str | None) -> None:
    """Move an alias back without the gate; needs no cluster."""
    spec = request.spec()
    name, _, alias = model.partition("@")
    gate = spec.model(name).promote or PromoteSpec()
    alias = alias or gate.to
    storage = open_storage(spec.cluster.storage, spec.name)
    found, left = roll_back(storage, name, alias, version, reason or "slipway rollback")
    given = "" if alias == gate.to else f"@{alias}"
    undo = f"slipway rollback {name}{given} {left}"
    request.answer(
        {"model": name, "version": found.number, "alias": alias, "from": left, "undo": undo},
        f"{found.name} is {alias} again ({name}@{left} was); undo: {undo}",
    )
