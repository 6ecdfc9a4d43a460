"""What the cluster is doing, as data: nodes, jobs, why anything waits. Asks its HTTP API only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from . import api
from .client import JobState, jobs
from .connection import ClusterError, Connection
from .launches import NOT_GIVEN, Growth, growth
from .waiting import FIXED, Amounts, describe, sum_amounts, why_waiting

if TYPE_CHECKING:
    from .spec import Spec

NAMES = {"objectStoreMemory": "object_store_memory"}
FILTER = "?detail=1&filter_keys=state&filter_predicates=%3D&filter_values="


@dataclass(frozen=True)
class Node:
    """One machine."""

    id: str
    address: str
    alive: bool
    head: bool
    total: dict[str, float]
    """Resource -> amount; memory in bytes."""
    used: dict[str, float] | None
    """None where Ray does not report it (yet)."""


@dataclass(frozen=True)
class Waiting:
    """Something that has not got what it asked for."""

    what: str
    job: str | None
    """Submission id of the job that asked; None if unknown."""
    demand: dict[str, float]
    why: str


@dataclass(frozen=True)
class Status:
    """A cluster at one moment."""

    cluster: str
    address: str
    dashboard: str
    nodes: tuple[Node, ...]
    jobs: tuple[JobState, ...]
    waiting: tuple[Waiting, ...]

    def total(self) -> dict[str, float]:
        """Resources of all live nodes."""
        return sum_amounts(node.total for node in self.nodes if node.alive)

    def as_dict(self) -> dict[str, Any]:
        """The document that `--json` prints."""
        return asdict(self)


def status(connection: Connection, spec: Spec) -> Status:
    """Ask the cluster how it is.

    Raises:
        ClusterError: it cannot be reached.
    """
    report = api.get(connection, "/api/cluster_status")
    usage = _usage(report)
    nodes = tuple(_nodes(_rows(api.get(connection, "/api/v0/nodes?detail=1")), usage))
    known = jobs(connection)
    total = sum_amounts(node.total for node in nodes if node.alive)
    used = sum_amounts(node.used or {} for node in nodes if node.alive)
    groups = _rows(api.get(connection, f"/api/v0/placement_groups{FILTER}PENDING"))
    tasks = _rows(api.get(connection, f"/api/v0/tasks{FILTER}PENDING_NODE_ASSIGNMENT"))
    grows = _growth(connection, spec, report["data"])
    starting = grows.shown()
    waiting = [
        Waiting(what, job, demand, _joined(why_waiting(demand, spec, total, used), starting))
        for what, job, demand in pending(groups, tasks, known)
    ]
    waiting += [
        Waiting(job.submission_id, job.submission_id, {}, job.message)
        for job in known
        if job.status == "PENDING" and job.message
    ]
    for_pods = spec.cluster.provider.type == "kubernetes"  # which says itself why they do not come
    waiting += [
        Waiting(each.node_type, None, {}, str(each))
        for each in grows.troubles
        if not (for_pods and each.cause == NOT_GIVEN)
    ]
    waiting += _of_kubernetes(spec)
    return Status(
        connection.id, connection.address, connection.api_url, nodes, tuple(known), tuple(waiting)
    )


def pending(
    groups: Iterable[Mapping[str, Any]],
    tasks: Iterable[Mapping[str, Any]],
    known: Iterable[JobState],
) -> list[tuple[str, str | None, dict[str, float]]]:
    """(what, submission id, demand) of each pending placement group and each kind of task."""
    submissions = {job.job_id: job.submission_id for job in known if job.job_id}
    found: dict[tuple[str, str | None], dict[str, float]] = {}
    for group in groups:
        demand = sum_amounts(bundle["unit_resources"] for bundle in group["bundles"])
        name = group.get("name") or f"placement group {group['placement_group_id'][:8]}"
        found[name, submissions.get(str(group.get("creator_job_id")))] = demand
    for task in tasks:
        # A task inside a group waits for the group, which is listed itself.
        if not task.get("placement_group_id") and task.get("required_resources"):
            key = task["name"], submissions.get(str(task.get("job_id")))
            found.setdefault(key, dict(task["required_resources"]))
    return [(what, job, demand) for (what, job), demand in found.items()]


def describe_waiting(waiting: Waiting) -> str:
    """The line for people."""
    if not waiting.demand:
        return waiting.why if waiting.job is None else f"{waiting.job}: {waiting.why}"
    return f"{waiting.job or waiting.what} ({describe(waiting.demand)}): {waiting.why}"


def _growth(connection: Connection, spec: Spec, data: Mapping[str, Any]) -> Growth:
    """What the autoscaler does: v2 writes no report, and tells it when asked."""
    if data.get("clusterStatus") is None and spec.cluster.provider.type not in FIXED:
        data = api.get(connection, "/api/cluster_status?format=1")["data"]
    return growth(data)


def _of_kubernetes(spec: Spec) -> list[Waiting]:
    """What Kubernetes says of pods that do not come; nothing where it may not be asked."""
    provider = spec.cluster.provider
    if provider.type != "kubernetes":
        return []
    from .kubernetes.applying import why
    from .kubernetes.client import connect

    with suppress(ClusterError):
        return [Waiting(each.what, None, {}, str(each)) for each in why(spec, connect(provider))]
    return []


def _joined(why: str, more: str) -> str:
    return f"{why}; {more}" if more else why


def _rows(answer: Any) -> list[dict[str, Any]]:
    return list(answer["data"]["result"]["result"])


def _nodes(rows: Iterable[Mapping[str, Any]], usage: Mapping[str, Amounts]) -> Iterable[Node]:
    for row in rows:
        total = {k: v for k, v in row["resources_total"].items() if not k.startswith("node:")}
        used = usage.get(row["node_id"])
        yield Node(
            id=row["node_id"],
            address=row["node_ip"],
            alive=row["state"] == "ALIVE",
            head=bool(row.get("is_head_node")),
            total=total,
            used=None if used is None else {k: v for k, v in used.items() if k in total},
        )


def _usage(answer: Any) -> dict[str, dict[str, float]]:
    """Node id -> what is used of it, as the autoscaler reports it every few seconds."""
    report = ((answer["data"].get("clusterStatus") or {}).get("loadMetricsReport")) or {}
    return {
        node: {NAMES.get(name, name): float(pair[0]) for name, pair in resources.items()}
        for node, resources in (report.get("usageByNode") or {}).items()
    }
