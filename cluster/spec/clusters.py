"""The section ``cluster:``."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from cluster.spec.grammar import Accelerator, Bytes, Money, Range, Seconds, Share
from cluster.spec.providers import Local, Provider, StorageSpec
from cluster.spec.references import EnvironmentValue, Name
from cluster.spec.section import Bool, Count, Section, as_list

POOL = "slipway/pool"
"""The label of a node, Ray's and Kubernetes', that says which pool it is of."""


def at_least_one(value: Range) -> Range:
    """Refuses a range that ends at 0."""
    if value.max < 1:
        raise ValueError("must reach 1 at least")
    return value


class Head(Section):
    """The node that holds Ray's head."""

    cpus: Count | None = None
    """CPUs that Ray may use on it; all of the machine's by default."""
    memory: Bytes | None = None
    """Memory of it; all of the machine's by default."""


class Pool(Section):
    """A group of like nodes."""

    name: Name
    """Name that train.pool refers to."""
    nodes: Annotated[Range, AfterValidator(at_least_one)] = Range(1, 1)
    """Number of nodes; a range where the pool may grow and shrink."""
    accelerators: Annotated[tuple[Accelerator, ...], BeforeValidator(as_list)] = ()
    """Accelerators of each node; of several, the first that can be had."""
    cpus: Count | None = None
    """CPUs of each node; on Kubernetes what a pod asks for, a little less than the machine has."""
    memory: Bytes | None = None
    """Memory of each node; on Kubernetes 4Gi for each CPU, or what fits beside accelerators."""
    instance: str | None = None
    """The provider's name of the machine, in place of our choice."""
    spot: Bool = False
    """Whether the nodes may be taken away for a lower price."""
    price: Money | None = None
    """Price of a node, in place of our table's."""


class Budget(Section):
    """What runs may cost. Services are never touched."""

    short = "runs"

    runs: Money
    """What all runs together may cost."""
    warn: Share = 0.8
    """The share of it at which a warning is given."""


class ClusterSpec(Section):
    """The machines, and what is kept of their work."""

    provider: Provider = Local()
    """Where the machines come from: local, ray, kubernetes, onprem, aws, gcp or azure."""
    storage: StorageSpec = Field(default_factory=dict, validate_default=True)
    """Where data, runs and models are kept: a folder, s3://BUCKET/PREFIX, or a map."""
    head: Head = Head()
    """The node that holds Ray's head."""
    pools: tuple[Pool, ...] = ()
    """Groups of like nodes."""
    idle_timeout: Seconds = 600.0
    """How long a node may idle before it is given back."""
    budget: Budget | None = None
    """What runs may cost; no bound by default."""
    high_availability: Literal["auto", "off", "embedded", "redis"] = "auto"
    """Where the head's state outlives it; auto is off on Kubernetes, else embedded (its disk)."""
    env: dict[str, EnvironmentValue] = Field(default_factory=dict)
    """Environment variables of every process on the cluster: texts or secrets."""

    def pool(self, name: str) -> Pool | None:
        """The pool of that name."""
        return next((pool for pool in self.pools if pool.name == name), None)
