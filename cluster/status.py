"""What the cluster is doing, as data: nodes, jobs, why anything waits. Asks its HTTP API only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from . import api
from .client import JobState, jobs
from .connection import Connection
from .waiting import Amounts, describe, sum_amounts, why_waiting

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
    usage = _usage(api.get(connection, "/api/cluster_status"))
    nodes = tuple(_nodes(_rows(api.get(connection, "/api/v0/nodes?detail=1")), usage))
    known = jobs(connection)
    total = sum_amounts(node.total for node in nodes if node.alive)
    used = sum_amounts(node.used or {} for node in nodes if node.alive)
    groups = _rows(api.get(connection, f"/api/v0/placement_groups{FILTER}PENDING"))
    tasks = _rows(api.get(connection, f"/api/v0/tasks{FILTER}PENDING_NODE_ASSIGNMENT"))
    waiting = tuple(
        Waiting(what, job, demand, why_waiting(demand, spec, total, used))
        for what, job, demand in pending(groups, tasks, known)
    )
    return Status(
        connection.id, connection.address, connection.api_url, nodes, tuple(known), waiting
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
    return f"{waiting.job or waiting.what} ({describe(waiting.demand)}): {waiting.why}"


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
