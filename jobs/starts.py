"""Networks that start from a version of ours: pinned to its number, fetched to this node."""

from __future__ import annotations

from pathlib import Path

from cluster.spec import ModelReference, ModelSpec, Pretrained, Spec
from cluster.storage import Storage
from jobs.bundles import BundleError, fetch_bundle, resolve


def pinned(spec: Spec, name: str, storage: Storage) -> Spec:
    """The spec with ``MODEL@latest`` or an alias replaced by the number that it stands for now.

    What a run started from is then part of its digest, and stays when the alias moves.
    """
    model = spec.model(name)
    reference = reference_of(model)
    if reference is None:
        return spec
    version = resolve(storage, str(reference))
    network = model.network.model_copy(update={"pretrained": version.name})
    models = spec.models | {name: model.model_copy(update={"network": network})}
    return spec.model_copy(update={"models": models})


def start_folder(model: ModelSpec, storage: Storage) -> Path | None:
    """Local folder of the version that the network starts from; None for any other start."""
    reference = reference_of(model)
    return None if reference is None else fetch_bundle(storage, resolve(storage, str(reference)))


def waits_for(spec: Spec, name: str, storage: Storage) -> str | None:
    """The version that the network starts from, where there is none yet."""
    reference = reference_of(spec.model(name))
    if reference is None:
        return None
    try:
        resolve(storage, str(reference))
    except BundleError:
        return str(reference)
    return None


def reference_of(model: ModelSpec) -> ModelReference | None:
    """The version that the network names; folders and hub names are not versions."""
    if not isinstance(model.network, Pretrained):
        return None
    try:
        return ModelReference.parse(model.network.pretrained)
    except ValueError:
        return None
