"""``up``, ``down``, ``doctor``, ``render``, ``env``, ``schema``: the cluster itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cluster.request import FAILED, Request, WrongRequestError

if TYPE_CHECKING:
    from cluster.connection import Connection
    from cluster.spec import Spec

RENDERED_ONLY = ("gcp", "azure")
MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def up(request: Request) -> None:
    """Start the cluster, or say that it runs."""
    from cluster.attach import LAUNCHED, connect
    from cluster.kubernetes import verbs as kubernetes
    from cluster.launcher import verbs as launcher

    spec = request.spec()
    _check_ours(spec)
    if spec.cluster.provider.type == "kubernetes":
        kubernetes.up(request, spec)
        return
    if spec.cluster.provider.type in LAUNCHED:
        launcher.up(request, spec)
        return
    connection = connect(spec, request.say)
    known = "is up" if connection.fresh else "was up already; nothing changed"
    request.answer(
        {
            "cluster": connection.id,
            "address": connection.address,
            "dashboard": connection.api_url,
            "fresh": connection.fresh,
        },
        f"{connection.id} {known}: dashboard {connection.api_url}\n"
        f'its token: {connection.token_path or "none"}; eval "$(slipway env)" sets both for Ray',
    )


def _check_ours(spec: Spec) -> None:
    kind = spec.cluster.provider.type
    if kind == "ray":
        raise WrongRequestError(
            "provider ray is a cluster that others run: slipway neither starts nor ends it"
        )
    if kind in RENDERED_ONLY:
        raise WrongRequestError(
            f"provider {kind}: slipway render prints what Ray's launcher is to take, and starting "
            "it is not available in this version; aws, kubernetes and onprem are"
        )


def down(request: Request) -> None:
    """End the cluster's processes; runs, data and models stay in storage."""
    from cluster import local
    from cluster.attach import LAUNCHED
    from cluster.kubernetes import verbs as kubernetes
    from cluster.launcher import verbs as launcher

    spec = request.spec()
    _check_ours(spec)
    if spec.cluster.provider.type == "kubernetes":
        kubernetes.down(request, spec)
        return
    if spec.cluster.provider.type in LAUNCHED:
        launcher.down(request, spec)
        return
    if not request.yes:
        check_idle(local.find(spec), spec)
    ended = local.stop(spec, request.say)
    text = f"{spec.name} is down: {len(ended)} processes ended; storage stays"
    request.answer(
        {"ended": len(ended)}, text if ended else f"{spec.name} was not up; nothing to end"
    )


def check_idle(connection: Connection | None, spec: Spec) -> None:
    """Refuse to end jobs that are under way and services in use: ``down -y`` does."""
    from cluster import client, services
    from cluster.attach import connect_services

    serving = connect_services(spec, connection)
    if serving is not None and (served := services.in_use(serving, spec)):
        raise WrongRequestError(
            f"services are in use, or came up within the last hour: {', '.join(served)}; slipway "
            "stop MODEL ends one, down -y ends all"
        )
    if connection is None:
        return
    names = [job.submission_id for job in client.jobs(connection) if not job.is_ended]
    if names:
        raise WrongRequestError(
            f"under way: {', '.join(names)}; end it with slipway stop, or down -y ends all "
            "(a training resumes from its last checkpoint when it is asked for again)"
        )


def doctor(request: Request) -> int:
    """Print the findings; exit code 1 where one of them fails."""
    from cluster.doctor import examine

    spec: Spec | None = None
    problem: ValueError | None = None
    try:
        spec = request.spec()
    except ValueError as error:
        problem = error
    findings = examine(spec, problem)
    failed = any(finding.level == "fail" for finding in findings)
    request.answer({"findings": [finding.as_dict() for finding in findings]})
    for finding in findings if not request.json else ():
        print(f"{MARKS[finding.level]}  {finding.name}: {finding.detail}")
        if finding.fix and finding.level != "ok":
            print(f"      {finding.fix}")
    return FAILED if failed else 0


def render(request: Request, spec: bool, run: str | None = None) -> None:
    """Print the merged spec, what ``up`` would apply, or an ephemeral run of a model."""
    loaded = request.spec()
    if spec:
        text = loaded.dump()
        request.answer(loaded.model_dump(mode="json", by_alias=True), text.rstrip("\n"))
        return
    from cluster.documents import write_documents
    from cluster.rendering import notes, rendered, rendered_run

    for line in notes(loaded):
        print(f"note: {line}", file=sys.stderr)
    documents = rendered(loaded) if run is None else rendered_run(loaded, run)
    if loaded.cluster.provider.type in RENDERED_ONLY:
        print(
            "note: this version renders and checks what Ray's launcher takes on "
            f"{loaded.cluster.provider.type}, and does not start it; the files of file_mounts are "
            "made by slipway up, which starts aws and onprem only",
            file=sys.stderr,
        )
    request.answer({"documents": documents}, write_documents(documents).rstrip("\n"))


def env(request: Request) -> None:
    """Print export lines for a shell."""
    from cluster.attach import connect_existing

    spec = request.spec()
    connection = connect_existing(spec)
    if connection is None:
        raise WrongRequestError("no cluster is up; slipway up starts it")
    if spec.cluster.provider.type == "kubernetes":
        from cluster.kubernetes.attaching import standing_way

        connection, way = standing_way(spec, connection)
        print(f"# works while this runs in another terminal: {way}", file=sys.stderr)
    request.answer(connection.env(), connection.exports())


def schema(request: Request) -> None:
    """Print the JSON Schema."""
    import json

    from cluster.spec.schema import json_schema

    print(json.dumps(json_schema(), indent=2))
