"""A stand-in for the Kubernetes API: it keeps objects, validates them by the real schemas, and
answers as much as the official client and kubectl ask: discovery, apply, get, list, watch, delete.
"""

from __future__ import annotations

import base64
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

from tests.manifests.fake_forward import forward

GROUPS = {
    "v1": {
        "Namespace": "namespaces",
        "Pod": "pods",
        "Event": "events",
        "Secret": "secrets",
        "Service": "services",
        "ConfigMap": "configmaps",
        "PersistentVolumeClaim": "persistentvolumeclaims",
    },
    "apps/v1": {"StatefulSet": "statefulsets"},
    "networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
    "ray.io/v1": {
        "RayCluster": "rayclusters",
        "RayJob": "rayjobs",
        "RayService": "rayservices",
    },
    "kueue.x-k8s.io/v1beta1": {"Workload": "workloads"},
}
Faults = Callable[[list[dict[str, Any]]], list[str]]


class FakeApi:
    """Objects by (plural, name); ``refuse`` maps "verb plural" to a status and a message."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.groups = {version: dict(kinds) for version, kinds in GROUPS.items()}
        self.refuse: dict[str, tuple[int, str]] = {}
        self.rules: list[dict[str, Any]] | None = None
        """Rules of Roles: what they do not allow is forbidden; None allows all."""
        self.requests: list[str] = []
        self.version = 0
        self.ready = True
        """Whether a RayCluster that is made is ready at once, as an operator would make it."""
        self.busy = 0
        """How many of the next requests are turned away for now."""
        self.dashboard: tuple[str, int] | None = None
        """Where a head's dashboard is; then a ready RayCluster has the head's pod, too."""
        self.put({"kind": "Namespace", "metadata": {"name": "ml"}}, "namespaces")

    def put(self, document: dict[str, Any], plural: str) -> dict[str, Any]:
        """Keep an object under a new version."""
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        self.objects[plural, document["metadata"]["name"]] = document
        return document

    def apply(self, document: dict[str, Any], plural: str) -> tuple[int, dict[str, Any]]:
        """Server-side apply, for a single manager: what it says now replaces what it said."""
        found = self.faults([document])
        if found:
            return 422, _status(422, f"is invalid: {'; '.join(found)}")
        before = self.objects.get((plural, document["metadata"]["name"]))
        if before is not None and _said(before) == _said(document):
            return 200, before
        if plural == "rayclusters" and self.ready:
            document["status"] = {"state": "ready"}
            if self.dashboard:
                self.put_head(document["metadata"]["name"])
        return (200 if before else 201), self.put(document, plural)

    def put_head(self, cluster: str) -> None:
        """The pod of a RayCluster's head, as the operator labels it."""
        labels = {"ray.io/cluster": cluster, "ray.io/node-type": "head", "slipway/cluster": cluster}
        metadata = {"name": f"{cluster}-head", "labels": labels}
        self.put({"kind": "Pod", "metadata": metadata, "status": {"phase": "Running"}}, "pods")

    def listed(self, plural: str, query: dict[str, str]) -> list[dict[str, Any]]:
        """The objects of a kind that a selector takes."""
        found = [each for (kind, _), each in self.objects.items() if kind == plural]
        wanted = dict(pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair)
        name = query.get("fieldSelector", "").removeprefix("metadata.name=")
        return [
            each
            for each in found
            if wanted.items() <= each["metadata"].get("labels", {}).items()
            and name in ("", each["metadata"]["name"])
        ]


@contextmanager
def serving(api: FakeApi) -> Iterator[str]:
    """The address of the API while the block runs."""
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    api: FakeApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one write for an answer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("get")

    def do_PATCH(self) -> None:
        self._answer("patch")

    def do_POST(self) -> None:
        self._answer("create")

    def do_DELETE(self) -> None:
        self._answer("delete")

    def _answer(self, verb: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = yaml.safe_load(self.rfile.read(length)) if length else None
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        self.api.requests.append(f"{verb} {self.path}")
        path = url.path.strip("/").split("/")
        answer = self._refused(verb, path, query)
        if answer is None and path[-1] == "portforward":
            assert self.api.dashboard is not None
            forward(self, int(query["ports"]), self.api.dashboard)
            return
        status, document = answer or self._work(verb, path, query, body)
        self._send(status, document)

    def _refused(self, verb: str, path: list[str], query: dict[str, str]) -> Any:
        """What a test, or the rules of Roles, do not let through."""
        if self.api.busy:
            self.api.busy -= 1
            return 504, _status(504, "Timeout: Too large resource version: 3, current: 2")
        if "namespaces" not in path:
            return None
        at = path.index("namespaces")
        group = path[1] if path[0] == "apis" else ""
        plural, name = [*path[at + 2 :], None, None][:2]
        verbs = [verb]
        if plural is None:
            group, plural, name = "", "namespaces", path[at + 1]
        elif path[-1] == "portforward":  # a WebSocket: from 1.35 both are asked for
            verbs, plural = ["get", "create"], "pods/portforward"
        elif verb == "get" and name is None:
            verbs = ["watch" if query.get("watch") else "list"]
        elif verb == "patch" and (plural, name) not in self.api.objects:
            verbs = ["patch", "create"]
        for each in verbs:
            if f"{verb if name is None else each} {plural}" in self.api.refuse:
                status, message = self.api.refuse[f"{verb if name is None else each} {plural}"]
                return status, _status(status, message)
            if self.api.rules is not None and not allowed(
                self.api.rules, each, group, str(plural), name if verb != "create" else None
            ):
                whom = f'{plural} "{name}" is forbidden: User "eve" cannot {each} resource'
                return 403, _status(
                    403, f'{whom} "{plural}" in API group "{group}" in the namespace'
                )
        return None

    def _work(self, verb: str, path: list[str], query: dict[str, str], body: Any) -> Any:
        discovered = self._discover("/".join(path))
        if discovered is not None:
            return 200, discovered
        version = path[1] if path[0] == "api" else f"{path[1]}/{path[2]}"
        rest = path[2:] if path[0] == "api" else path[3:]
        if version not in self.api.groups or not rest:
            return 404, _status(404, "the server could not find the requested resource")
        if rest[0] == "namespaces" and len(rest) > 2:
            rest = rest[2:]
        plural, name = rest[0], rest[1] if len(rest) > 1 else None
        if verb == "patch":
            assert self.headers["Content-Type"] == "application/apply-patch+yaml"
            return self.api.apply(body, plural)
        if verb == "create":
            if (plural, body["metadata"]["name"]) in self.api.objects:
                return 409, _status(409, "already exists")
            if "stringData" in body:
                texts = body.pop("stringData")
                body["data"] = {k: base64.b64encode(v.encode()).decode() for k, v in texts.items()}
            return 201, self.api.put(body, plural)
        if name is None:
            items = self.api.listed(plural, query)
            if query.get("watch"):
                return 200, [{"type": "ADDED", "object": each} for each in items]
            return 200, {"kind": "List", "apiVersion": version, "metadata": {}, "items": items}
        if (plural, name) not in self.api.objects:
            return 404, _status(404, f'{plural} "{name}" not found')
        if verb == "delete":
            return 200, self.api.objects.pop((plural, name))
        return 200, self.api.objects[plural, name]

    def _discover(self, path: str) -> Any:
        groups = self.api.groups
        if path == "version":
            return {"major": "1", "minor": "32", "gitVersion": "v1.32.0"}
        if path == "api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "apis":
            return {"kind": "APIGroupList", "groups": [_group(v) for v in groups if "/" in v]}
        for version, kinds in groups.items():
            if path in (f"api/{version}", f"apis/{version}"):
                return {
                    "kind": "APIResourceList",
                    "groupVersion": version,
                    "resources": [_resource(kind, plural) for kind, plural in kinds.items()],
                }
        return None

    def _send(self, status: int, document: Any) -> None:
        lines = document if isinstance(document, list) else [document]
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def allowed(
    rules: list[dict[str, Any]], verb: str, group: str, resource: str, name: str | None
) -> bool:
    """Whether Kubernetes' rules of Roles let a request through."""
    return any(
        verb in rule["verbs"]
        and group in rule["apiGroups"]
        and resource in rule["resources"]
        and ("resourceNames" not in rule or name in rule["resourceNames"])
        for rule in rules
    )


def _said(document: dict[str, Any]) -> dict[str, Any]:
    metadata = {k: v for k, v in document["metadata"].items() if k != "resourceVersion"}
    return {k: v for k, v in document.items() if k != "status"} | {"metadata": metadata}


def _status(code: int, message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "code": code, "message": message}


def _group(version: str) -> dict[str, Any]:
    name = version.split("/")[0]
    inside = {"groupVersion": version, "version": version.split("/")[1]}
    return {"name": name, "versions": [inside], "preferredVersion": inside}


def _resource(kind: str, plural: str) -> dict[str, Any]:
    return {
        "name": plural,
        "singularName": kind.lower(),
        "namespaced": kind != "Namespace",
        "kind": kind,
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    }
