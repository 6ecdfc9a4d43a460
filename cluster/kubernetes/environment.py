"""The environment of pods, and the secrets they read as files: references only, never a value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cluster.client import STOPPING
from cluster.spec.references import Secret
from cluster.spec.section import Section

if TYPE_CHECKING:
    from cluster.spec import Spec

SECRETS = "/etc/slipway/secrets"
# The key of `{secret: NAME}` in the Secret NAME.
KEY = "value"
# What the S3 client reads of `storage.credentials`.
CREDENTIALS = ("access_key", "secret_key")


def environment(spec: Spec, accelerated: bool) -> list[dict[str, Any]]:
    """Variables of every container of Ray: ours, then those of ``cluster.env``, which win."""
    ours = STOPPING | {
        # a job's own process may wait for a pool's first pod, whose image is still being pulled
        "RAY_JOB_START_TIMEOUT_SECONDS": "7200",
        "RAY_USAGE_STATS_ENABLED": "0",
        "SLIPWAY_CLUSTER_ID": spec.name,
        "SLIPWAY_SECRETS": SECRETS,
    }
    if not accelerated:
        ours["DS_ACCELERATOR"] = "cpu"
    declared = spec.cluster.env
    found: list[dict[str, Any]] = [
        {"name": name, "value": value} for name, value in ours.items() if name not in declared
    ]
    return found + [_variable(name, value) for name, value in declared.items()]


def secret_files(spec: Spec) -> list[dict[str, Any]]:
    """Sources of the projected volume at SECRETS: just the keys that the spec names.

    The files are called as ``cluster.secrets`` looks for them: NAME, or NAME/KEY.
    """
    wanted: dict[str, dict[str, str]] = {}
    for secret, keys in _read_by_name(spec):
        for key, path in keys.items():
            wanted.setdefault(secret.name, {})[path] = key
    return [
        {
            "secret": {
                "name": name,
                "items": [{"key": key, "path": path} for path, key in sorted(paths.items())],
            }
        }
        for name, paths in sorted(wanted.items())
    ]


def secret_names(spec: Spec) -> dict[str, set[str]]:
    """Secrets that must exist before pods start, with the keys that they must have."""
    found: dict[str, set[str]] = {}
    for secret, keys in _read_by_name(spec):
        found.setdefault(secret.name, set()).update(keys)
    for value in spec.cluster.env.values():
        if isinstance(value, Secret):
            found.setdefault(value.name, set()).add(value.key or KEY)
    return found


def services_tokens(spec: Spec) -> Secret:
    """The Secret with the clients' tokens; ``serve`` makes one where the spec names none."""
    return spec.services.tokens or Secret(f"{spec.name}-tokens")


def secret_source(secret: Secret) -> dict[str, Any]:
    """The source of a projected volume for one secret, whose file ``cluster.secrets`` finds."""
    items = [{"key": secret.key or KEY, "path": str(secret)}]
    return {"secret": {"name": secret.name, "items": items}}


def _variable(name: str, value: str | Secret) -> dict[str, Any]:
    if isinstance(value, str):
        return {"name": name, "value": value}
    reference = {"name": value.name, "key": value.key or KEY}
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}


def _read_by_name(spec: Spec) -> Iterator[tuple[Secret, dict[str, str]]]:
    """Secrets that processes look up while they work: each with its keys and their files."""
    credentials = spec.cluster.storage.credentials
    if credentials is not None:
        yield credentials, {key: f"{credentials}/{key}" for key in CREDENTIALS}
    for part in (spec.models, spec.notify):
        for secret in _secrets(part):
            yield secret, {secret.key or KEY: str(secret)}


def _secrets(value: object) -> Iterator[Secret]:
    """Every reference to a secret in a part of the spec."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, Section):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, dict):
        for each in value.values():
            yield from _secrets(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _secrets(each)
