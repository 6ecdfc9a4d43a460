"""The Kubernetes API through its official client, with errors that say what to do next."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cluster.connection import ClusterError
from cluster.documents import Document
from cluster.kubernetes.kubeconfig import client_of
from cluster.kubernetes.refusals import INSTALL, refusal

if TYPE_CHECKING:
    from cluster.spec.providers import Kubernetes

MANAGER = "slipway"
VERSIONS = {
    "RayCluster": "ray.io/v1",
    "RayJob": "ray.io/v1",
    "RayService": "ray.io/v1",
    "StatefulSet": "apps/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "Workload": "kueue.x-k8s.io/v1beta1",
}
NO_FILE = os.path.join(os.devnull, "discovery")
# by default what an API can do is kept in /tmp by address: soon out of date, and anybody's to write
HANDSHAKE = re.compile(r"Handshake status (\d+) [^{]*(?:\{'.*?'\} -\+-\+- )?(\{.*\})?", re.DOTALL)


class Kube:
    """One namespace of one cluster. Every method raises ClusterError with cause and remedy."""

    def __init__(self, api: Any, namespace: str) -> None:
        from cluster.kubernetes.bounded import BoundedClient

        self.namespace = namespace
        self._api = api
        with _explained(namespace):
            self._dynamic = BoundedClient(api, cache_file=NO_FILE)

    @property
    def server(self) -> str:
        """The API's address, which tells clusters of one name and namespace apart."""
        return str(self._api.configuration.host)

    def apply(self, document: Document) -> bool:
        """Server-side apply; returns whether anything changed."""
        kind, name = document["kind"], document["metadata"]["name"]
        before = self.get(kind, name)
        with _explained(self.namespace):
            after = self._dynamic.server_side_apply(
                self._resource(kind),
                body=document,
                namespace=self.namespace,
                field_manager=MANAGER,
                force_conflicts=True,
                # a misspelt key of `pod:` is an error, not something that is dropped in silence
                query_params=[("fieldValidation", "Strict")],
            ).to_dict()
        return before is None or _version(before) != _version(after)

    def create(self, document: Document) -> bool:
        """Make an object, and leave one that is there alone; returns whether it was made."""
        from kubernetes.client.exceptions import ApiException

        with _explained(self.namespace):
            try:
                resource = self._resource(document["kind"])
                self._dynamic.create(resource, body=document, namespace=self.namespace)
            except ApiException as error:
                if error.status == 409:
                    return False
                raise
        return True

    def get(self, kind: str, name: str) -> Document | None:
        """An object; None where there is none."""
        from kubernetes.client.exceptions import ApiException

        with _explained(self.namespace):
            try:
                found = self._dynamic.get(self._resource(kind), name, self.namespace)
            except ApiException as error:
                if error.status == 404:
                    return None
                raise
        document: Document = found.to_dict()
        return document

    def find(self, kind: str, selector: str | None = None) -> list[Document]:
        """The namespace's objects of a kind, those with the labels of ``a=b,c=d``."""
        with _explained(self.namespace):
            found = self._dynamic.get(
                self._resource(kind), namespace=self.namespace, label_selector=selector
            )
        return [item.to_dict() for item in found.items]

    def watch(self, kind: str, name: str, timeout_s: float) -> Iterator[Document]:
        """An object each time that it changes, until the time is over; now, to begin with."""
        with _explained(self.namespace):
            for event in self._dynamic.watch(
                self._resource(kind),
                namespace=self.namespace,
                name=name,
                timeout=max(1, round(timeout_s)),
            ):
                yield event["raw_object"]

    def delete(self, kind: str, name: str) -> bool:
        """End an object, and then what belongs to it; returns whether there was one.

        Not the other way round: while a RayCluster ends, the operator's job that clears Redis needs
        the service account that belongs to it.
        """
        from kubernetes.client.exceptions import ApiException

        with _explained(self.namespace):
            try:
                self._dynamic.delete(
                    self._resource(kind), name, self.namespace, propagation_policy="Background"
                )
            except ApiException as error:
                if error.status == 404:
                    return False
                raise
        return True

    def keys_of_secret(self, name: str) -> set[str] | None:
        """The keys of a Secret; None where there is none. Values are dropped at once.

        Where one may not read Secrets any key may be there: the pods will say.
        """
        from kubernetes.client.exceptions import ApiException

        with _explained(self.namespace):
            try:
                found = self._dynamic.get(self._resource("Secret"), name, self.namespace)
            except ApiException as error:
                if error.status == 403:
                    return _All()
                if error.status == 404:
                    return None
                raise
        return set(found.to_dict().get("data") or {})

    def has_namespace(self) -> bool:
        """Whether the namespace exists; True where one may not look."""
        from kubernetes.client.exceptions import ApiException

        with _explained(self.namespace):
            try:
                self._dynamic.get(self._resource("Namespace"), self.namespace)
            except ApiException as error:
                if error.status not in (403, 404):
                    raise
                return bool(error.status == 403)
        return True

    def value_of_secret(self, name: str, key: str) -> str:
        """One value of a Secret; it goes nowhere but to the caller."""
        import base64

        found = self.get("Secret", name)
        value = ((found or {}).get("data") or {}).get(key)
        if value is None:
            raise ClusterError(
                f"there is no key {key} in a Secret {name} in namespace {self.namespace}; "
                "slipway up makes it"
            )
        return base64.b64decode(value).decode()

    def dial(self, pod: str, port: int) -> socket.socket:
        """A connection to a port of a pod, which need not be open to anybody else."""
        from kubernetes.client import ApiClient, CoreV1Api
        from kubernetes.stream import portforward

        with _explained(self.namespace):
            # a client for each: the call changes it while it runs
            core = CoreV1Api(ApiClient(configuration=self._api.configuration))
            call = core.connect_get_namespaced_pod_portforward
            forward = portforward(call, pod, self.namespace, ports=str(port))
        found: socket.socket = forward.socket(port)
        return found

    def _resource(self, kind: str) -> Any:
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        version = VERSIONS.get(kind, "v1")
        try:
            return self._dynamic.resources.get(api_version=version, kind=kind)
        except ResourceNotFoundError:
            if version.startswith("ray.io"):
                raise ClusterError(
                    f"the cluster knows no {kind} of {version}: the KubeRay operator is absent or "
                    f"too old; its administrator runs: {INSTALL}"
                ) from None
            if kind == "Workload":
                raise ClusterError(
                    "the cluster has no Kueue, whose queue cluster.provider.queue names; leave "
                    "queue: away, or its administrator installs it: k8s/README.md"
                ) from None
            raise


def connect(provider: Kubernetes) -> Kube:
    """The cluster of the kubeconfig's context. Raises ClusterError."""
    return Kube(client_of(provider.context), provider.namespace)


class _All(set[str]):
    """A set that leaves nothing of what is taken from it."""

    def __rsub__(self, other: object) -> set[str]:
        return set()


@contextmanager
def _explained(namespace: str) -> Iterator[None]:
    """Turns the client's errors into ones that name cause and remedy."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        raise ClusterError(refusal(_status(error), _message(error), namespace)) from None
    except HTTPError as error:
        raise ClusterError(
            f"the Kubernetes API does not answer ({_first_line(error)}); "
            "is the context the right one, and the VPN up? kubectl cluster-info asks the same"
        ) from None


def _status(error: Any) -> int:
    """The answer's code; of a WebSocket that was refused it stands in the text."""
    found = HANDSHAKE.search(str(error.reason))
    return error.status or (int(found[1]) if found else 0)


def _message(error: Any) -> str:
    import json

    found = HANDSHAKE.search(str(error.reason))
    try:
        return str(json.loads(found[2] if found else error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason or error.body)


def _version(document: Document) -> object:
    """What differs once somebody changed more than the status, which operators write all along."""
    metadata = document["metadata"]
    if "generation" not in metadata:
        return metadata.get("resourceVersion")
    return metadata["generation"], metadata.get("labels"), metadata.get("annotations")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
