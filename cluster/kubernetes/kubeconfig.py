"""The kubeconfig's way to a cluster; what is wrong with the file is said with its name."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from cluster.connection import ClusterError
from cluster.spec.problems import did_you_mean

LOG_IN = (
    "aws eks update-kubeconfig, gcloud container clusters get-credentials, az aks get-credentials"
)


def client_of(context: str | None) -> Any:
    """The official client for a context, the current one by default. Raises ClusterError."""
    from kubernetes import client, config
    from kubernetes.config import kube_config

    from cluster.kubernetes.bounded import Retries

    file = kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    configuration = client.Configuration()
    configuration.retries = Retries()
    with _explained(file):
        contexts, current = config.list_kube_config_contexts()
        known = [each["name"] for each in contexts]
        wanted = str(context or (current or {}).get("name"))
        if wanted not in known:
            hint = did_you_mean(wanted, known)
            raise ClusterError(f'the kubeconfig has no context "{wanted}"{hint}')
        with _told() as told:
            api = config.new_client_from_config(
                context=wanted, persist_config=False, client_configuration=configuration
            )
    if told:
        raise ClusterError(
            f'the kubeconfig {file} cannot log in for context "{wanted}": {" ".join(told)}; is the '
            f"program of its user's exec: there, and are you logged in? {LOG_IN}"
        )
    _check_address(configuration.host, file, wanted)
    return api


def _check_address(host: str, file: str, context: str) -> None:
    try:
        parts = urlsplit(host)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or " " in host:
        raise ClusterError(
            f'the kubeconfig {file} says server: {host} of context "{context}", which is no '
            "address; one is like https://HOST:6443"
        )


@contextmanager
def _explained(file: str) -> Iterator[None]:
    """The client reads a file as it comes, and fails where something is not as it should be."""
    import yaml  # type: ignore[import-untyped]
    from kubernetes.config import ConfigException

    try:
        yield
    except ClusterError:
        raise
    except (ConfigException, OSError) as error:
        raise ClusterError(
            f"no kubeconfig that can be used ({' '.join(str(error).split())}); set KUBECONFIG, or "
            f"log in: {LOG_IN}"
        ) from None
    except yaml.YAMLError as error:
        raise ClusterError(
            f"the kubeconfig {file} is not YAML: {' '.join(str(error).split())}"
        ) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ClusterError(
            f"the kubeconfig {file} is not as one should be, a map with clusters, users and "
            f"contexts ({type(error).__name__}: {error}); kubectl config view reads the same"
        ) from None


@contextmanager
def _told() -> Iterator[list[str]]:
    """What the client only logs, and then goes on without any credentials."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                lines.append(record.getMessage())

    listener, root = Listener(), logging.getLogger()
    root.addHandler(listener)
    try:
        yield lines
    finally:
        root.removeHandler(listener)
