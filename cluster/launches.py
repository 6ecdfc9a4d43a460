"""What Ray's autoscaler does: nodes that start, and why others do not. Pure, from its report."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cluster.kubernetes.causes import explain

FAILED = re.compile(
    r"^\s*(?P<type>[\w.-]+): LaunchFailed(?: \((?:latest_attempt: (?P<at>[\d:]+))?[^)]*\))?"
    r"(?: - (?P<why>.*))?$",
    re.M,
)
NOW = re.compile(r"Autoscaler status: \S+ (\d\d:\d\d:\d\d)")
RECENT = timedelta(minutes=5)
"""It lists failures long after their nodes came."""
STARTING = re.compile(r"^\s*(?P<type>[\w.-]+), (?P<count>\d+) launching", re.M)
NOT_GIVEN = "the cloud did not give one"


@dataclass(frozen=True)
class Trouble:
    """A kind of node that does not come."""

    node_type: str
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"nodes of {self.node_type}: {self.cause}; {self.remedy}"


@dataclass(frozen=True)
class Growth:
    """Nodes under way by their type, and those that could not be had."""

    starting: Mapping[str, int]
    troubles: tuple[Trouble, ...]

    def shown(self) -> str:
        """ "2 of gpu are starting", or nothing."""
        parts = [f"{count} of {name}" for name, count in sorted(self.starting.items())]
        verb = "is" if sum(self.starting.values()) == 1 else "are"
        return f"{' and '.join(parts)} {verb} starting" if parts else ""


def growth(data: Mapping[str, Any]) -> Growth:
    """From what `/api/cluster_status` answers: as data (v1), or as text for people (v2)."""
    status = data.get("clusterStatus")
    if isinstance(status, str):
        return _of_text(status)
    report: Mapping[str, Any] = (status or {}).get("autoscalerReport") or {}
    starting = Counter({k: int(v) for k, v in (report.get("pendingLaunches") or {}).items()})
    starting.update(str(node[1]) for node in report.get("pendingNodes") or ())
    records = (report.get("nodeAvailabilitySummary") or {}).get("nodeAvailabilities") or {}
    troubles = []
    for name, record in records.items():
        said = record.get("unavailableNodeInformation")
        if said and not record.get("isAvailable"):
            message = f"{said.get('category', '')}: {said.get('description', '')}"
            troubles.append(_trouble(str(record.get("nodeType") or name), message))
    error = data.get("autoscalingError")
    if error:
        troubles.append(_trouble("the cluster", str(error)))
    return Growth(dict(starting), tuple(troubles))


def _of_text(text: str) -> Growth:
    starting = {match["type"]: int(match["count"]) for match in STARTING.finditer(text)}
    now = NOW.search(text)
    failed = {
        match["type"]: match["why"] or ""
        for match in FAILED.finditer(text)
        if not (now and match["at"]) or _passed(match["at"], now[1]) <= RECENT
    }
    return Growth(starting, tuple(_trouble(name, why) for name, why in failed.items()))


def _passed(start: str, end: str) -> timedelta:
    """Between two times of day, less than a day apart."""
    clock = "%H:%M:%S"
    return (datetime.strptime(end, clock) - datetime.strptime(start, clock)) % timedelta(days=1)


def _trouble(name: str, message: str) -> Trouble:
    found = explain(message)
    if found is not None:
        return Trouble(name, *found)
    lines = [line.strip() for line in message.splitlines() if line.strip(": ")]
    cause = lines[-1].strip(": ")[:200] if lines else NOT_GIVEN
    return Trouble(name, cause, "it is tried again; the head's monitor.log has the rest")
