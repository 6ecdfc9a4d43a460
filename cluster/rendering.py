"""What ``up`` would apply for a spec, whatever its provider: pure, from the spec alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.documents import Document
from cluster.request import WrongRequestError

if TYPE_CHECKING:
    from cluster.spec import Spec


def rendered(spec: Spec) -> list[Document]:
    """The documents, in the order of applying.

    Raises WrongRequestError for a provider that applies none.
    """
    kind = spec.cluster.provider.type
    if kind == "kubernetes":
        from cluster.kubernetes.documents import documents

        return documents(spec)
    if kind in ("aws", "gcp", "azure", "onprem"):
        from cluster.launcher.documents import launcher_documents

        return launcher_documents(spec)
    raise WrongRequestError(
        f"provider {kind} applies no documents; render --spec prints the merged spec"
    )


def notes(spec: Spec) -> list[str]:
    """What a person should know before it is applied."""
    if spec.cluster.provider.type != "kubernetes":
        return []
    from cluster.kubernetes.documents import warnings

    return warnings(spec)


def rendered_run(spec: Spec, model: str) -> list[Document]:
    """What a run with a cluster of its own applies; its id stands as MODEL-train-0000.

    Raises WrongRequestError where the provider has no such runs, SpecError for an unknown model.
    """
    if spec.cluster.provider.type != "kubernetes":
        raise WrongRequestError(
            f"provider {spec.cluster.provider.type} has no runs with a cluster of their own; "
            "kubernetes has"
        )
    from cluster.kubernetes.documents import run_documents

    spec.model(model)
    return run_documents(spec, model, f"{model}-train-0000")
