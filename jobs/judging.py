"""What becomes of a new version on the cluster: it is scored, then brought before its gate."""

from __future__ import annotations

from typing import Any

import ray

from cluster.notices import notify
from cluster.spec import Spec, usable_pools
from cluster.storage import Storage
from jobs.bundles import Version, resolve
from jobs.prepared import held_back_split
from jobs.promotion import is_judged, promote
from jobs.report import shown
from jobs.session import say


class GateError(ValueError):
    """The gate said no, which has been told."""


def judge(
    spec: Spec, storage: Storage, version: str, manifest: dict[str, Any], until: str, run: str
) -> None:
    """Bring a new version up to the stage ``until``; ``manifest`` is that of its data."""
    model = spec.model(version.partition("@")[0])
    gpus = int(any(pool.accelerators for pool in usable_pools(spec.cluster, model.train)))
    if until in ("evaluate", "promote"):
        score(spec, storage, version, manifest, gpus)
    if until == "promote":
        settle(spec, storage, version, run, gpus)


def score(
    spec: Spec, storage: Storage, version: str, manifest: dict[str, Any], gpus: int = 0
) -> None:
    """Evaluate a version on held-back data, unless that is done."""
    if held_back_split(manifest) is None:
        say(f"{version} is not evaluated: data.split holds nothing back")
    elif resolve(storage, version).held_back is None:
        _score_on(spec, storage, version, version, gpus)


def settle(spec: Spec, storage: Storage, version: str, run: str, gpus: int = 0) -> None:
    """Bring a version before its gate, where there is one; GateError where it says no."""
    found = resolve(storage, version)
    gate = spec.model(found.model).promote
    if gate is None:
        return
    if is_judged(storage, found, gate):
        say(f"{version} became {gate.to} before, under this gate")
        return

    def evaluated(candidate: Version, other: Version) -> None:
        _score_on(spec, storage, candidate.name, other.name, gpus)

    decision = promote(storage, found, gate, evaluated, run)
    say("\n".join(decision.lines()))
    if decision.holds and not decision.held:
        notify(spec, "promoted", decision.lines()[0], {"run": run}, say)
    if not decision.holds:
        raise GateError(f"{version} does not become {gate.to}")


def _score_on(spec: Spec, storage: Storage, version: str, like: str, gpus: int) -> None:
    """Score a version on the held-back data of `like`, on a node with room for it."""
    try:
        found = ray.get(_evaluate.options(num_gpus=gpus).remote(spec, version, like))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ValueError):  # written for the user; the traceback is no help
            raise ValueError(str(error.cause)) from None
        raise
    on = found["split"] if version == like else f"the {found['split']} part of {like}"
    say(f"evaluated {version} on {on}: {shown(found)}")
    say(f"report: {storage.url(found['report'])}")


@ray.remote(num_cpus=1)  # type: ignore[untyped-decorator]
def _evaluate(spec: Spec, version: str, like: str) -> dict[str, Any]:
    from jobs.evaluate import evaluate  # torch, which the driver does without

    return evaluate(spec, version, like=like)
