"""Hosts of one's own as nodes of Ray's autoscaler, which loads this file by its name.

`ray up` on the laptop and the autoscaler on the head use it; the head gets a copy, since this
package is not installed there. Ray's own provider for such hosts knows one type of them, tries the
first free host of the list again and again, dead or not, and never updates one that failed once.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

STATE_VARIABLE = "SLIPWAY_HOSTS"
STATE = "~/.slipway/hosts.json"
HEAD = "head"


class Hosts(NodeProvider):  # type: ignore[misc]
    """The spec's hosts. A host that was given up is tried again after all others of its pool.

    Each use of a host is a node of its own, ADDRESS#NUMBER: Ray never touches a node that failed.
    ``provider_config`` holds ``head_ip``, ``pools``, a map of pools to lists of hosts.
    """

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._path = Path(os.environ.get(STATE_VARIABLE) or STATE).expanduser()
        self._lock = threading.RLock()
        self._nodes: dict[str, dict[str, str]] = {}
        self._ended: dict[str, float] = {}
        self._count = 0
        if self._path.exists():
            state = json.loads(self._path.read_text())
            self._nodes, self._ended = state["nodes"], state["ended"]
            self._count = state["count"]
        elif STATE_VARIABLE not in os.environ:  # on the head, which is there
            self._nodes[provider_config["head_ip"]] = {
                TAG_RAY_NODE_KIND: NODE_KIND_HEAD,
                TAG_RAY_USER_NODE_TYPE: HEAD,
                TAG_RAY_NODE_NAME: f"ray-{cluster_name}-head",
                TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
            }

    def non_terminated_nodes(self, tag_filters: Mapping[str, str]) -> list[str]:
        """The nodes that carry all of the tags."""
        with self._lock:
            return [
                node
                for node, tags in self._nodes.items()
                if all(tags.get(key) == value for key, value in tag_filters.items())
            ]

    def is_running(self, node_id: str) -> bool:
        """Whether the node is in use."""
        return node_id in self._nodes

    def is_terminated(self, node_id: str) -> bool:
        """Whether the node was given back."""
        return node_id not in self._nodes

    def node_tags(self, node_id: str) -> dict[str, str]:
        """The node's tags; none once it was given back, which Ray may notice late."""
        with self._lock:
            return dict(self._nodes.get(node_id, {}))

    def external_ip(self, node_id: str) -> str:
        """The host's address."""
        return self.internal_ip(node_id)

    def internal_ip(self, node_id: str) -> str:
        """The host's address, as Ray itself reports it."""
        return socket.gethostbyname(_host(node_id))

    def set_node_tags(self, node_id: str, tags: Mapping[str, str]) -> None:
        """Add tags; nothing for a node that was given back meanwhile."""
        with self._lock:
            if node_id in self._nodes:
                self._nodes[node_id].update(tags)
                self._save()

    def create_node(
        self, node_config: Mapping[str, Any], tags: Mapping[str, str], count: int
    ) -> None:
        """Take up to ``count`` free hosts: untried ones first, then whose end is longest ago."""
        with self._lock:
            if tags.get(TAG_RAY_NODE_KIND) == NODE_KIND_HEAD:
                self._nodes[self.provider_config["head_ip"]] = dict(tags)
                self._save()
                return
            used = {_host(node) for node in self._nodes}
            hosts = self.provider_config["pools"][node_config["pool"]]
            free = [host for host in hosts if host not in used]
            for host in sorted(free, key=lambda host: self._ended.get(host, 0.0))[:count]:
                self._count += 1
                self._nodes[f"{host}#{self._count}"] = dict(tags)
            self._save()

    def terminate_node(self, node_id: str) -> None:
        """Give a host back; Ray has drained it, where it still answered."""
        with self._lock:
            if self._nodes.pop(node_id, None) is not None:
                self._ended[_host(node_id)] = time.time()
                self._save()

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        state = {"nodes": self._nodes, "ended": self._ended, "count": self._count}
        draft = self._path.with_suffix(".tmp")
        draft.write_text(json.dumps(state))
        draft.replace(self._path)


def _host(node_id: str) -> str:
    return node_id.partition("#")[0]
