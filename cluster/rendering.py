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
