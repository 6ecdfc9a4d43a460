"""Where a cluster comes from, and where its results are kept."""

from typing import Annotated, Any, Literal

from pydantic import Field

from cluster.spec.references import Place, Secret
from cluster.spec.section import Count, Section, chosen_by_type, variant


class Local(Section):
    """Ray on this machine, started and ended by us."""

    short = "type"

    type: Literal["local"] = "local"
    """This machine."""


class RayAddress(Section):
    """A Ray cluster that exists; up and down are refused there."""

    short = "type"

    type: Literal["ray"]
    """A Ray cluster that exists."""
    address: str
    """Address of its dashboard, where jobs are sent: http://HOST:8265."""
    token: Secret | None = None
    """The cluster's token, where it asks for one."""


class Kubernetes(Section):
    """RayClusters on Kubernetes, made by the KubeRay operator."""

    short = "type"

    type: Literal["kubernetes"]
    """Kubernetes with the KubeRay operator."""
    context: str | None = None
    """Context of the kubeconfig; the current one by default."""
    namespace: str = "default"
    """Namespace that everything is made in."""
    queue: str | None = None
    """Kueue's local queue, where the cluster has Kueue."""
    priority: str | None = None
    """Priority class of the pods."""
    image: str | None = None
    """Container image with this package and its dependencies; k8s/image builds one. Required."""
    platform: Literal["any", "gke", "karpenter", "eks", "aks"] = "any"
    """Whose labels tell nodes with accelerators and spot nodes: of any platform by default."""
    token: Secret | None = None
    """Secret with Ray's token under the key auth_token; one is made by default."""
    ingress_namespace: str | None = None
    """Namespace of the controller that serves the Ingress; only it may reach the services."""
    gateway_class: str | None = None
    """Gateway class for incremental upgrades of the services."""
    pod: dict[str, Any] = Field(default_factory=dict)
    """Merged into every pod of Ray's, for what is not foreseen here: metadata and spec. Redis and
    what submits a run's job take metadata, pull secrets, tolerations, selectors, account, user."""


class Host(Section):
    """One machine that is reached by ssh."""

    short = "address"

    address: str
    """Name or address."""
    pool: str | None = None
    """The pool it belongs to; the only pool by default."""


class OnPrem(Section):
    """Machines of one's own, reached by ssh."""

    short = "type"

    type: Literal["onprem"]
    """Machines of one's own."""
    head: str
    """Name or address of the machine that holds the head."""
    hosts: tuple[Host, ...]
    """The machines that hold workers, in order; more than the pools need stand by."""
    user: str | None = None
    """User that ssh logs in as; one's own by default."""
    key: Place | None = None
    """Private key for ssh; ssh's own choice by default."""
    port: Annotated[int, Field(strict=True, ge=1, le=65535)] = 22
    """Port of ssh; from the head to the others 22, or what ~/.ssh/config says there."""
    python: str | None = None
    """Interpreter on the hosts that has all packages; they are installed there by default."""


class AWS(Section):
    """EC2, through Ray's cluster launcher."""

    short = "type"

    type: Literal["aws"]
    """Amazon EC2."""
    region: str = "us-east-1"
    """Region of the machines."""
    zones: tuple[str, ...] = ()
    """Availability zones to try, in order; all of the region by default."""
    profile: str | None = None
    """Profile of the credentials; the usual search by default."""
    disk_gb: Count = 200
    """Size of each machine's disk in GB."""
    image: str | None = None
    """AMI of the machines; Amazon's newest with NVIDIA's driver by default."""
    security_group: str | None = None
    """A security group of one's own; by default one that lets ssh in, and nothing else."""
    private: bool = False
    """Machines have no public addresses; this one reaches their private ones, as by VPN."""
    user: str = "ubuntu"
    """User of the image that ssh logs in as."""
    python: str | None = None
    """Interpreter of the image that has all packages; they are installed by default."""


class GCP(Section):
    """Compute Engine, through Ray's cluster launcher."""

    short = "type"

    type: Literal["gcp"]
    """Google Compute Engine."""
    project: str | None = None
    """Id of the project. Required."""
    region: str = "us-central1"
    """Region of the machines."""
    zones: tuple[str, ...] = ()
    """Zones to try, in order."""
    disk_gb: Count = 200
    """Size of each machine's disk in GB."""
    image: str | None = None
    """Image of the machines; Google's for deep learning by default."""


class Azure(Section):
    """Azure virtual machines, through Ray's cluster launcher."""

    short = "type"

    type: Literal["azure"]
    """Azure virtual machines."""
    subscription: str | None = None
    """Subscription; that of the credentials by default."""
    resource_group: str = "slipway"
    """Resource group that everything is made in."""
    region: str = "westeurope"
    """Location of the machines."""
    zones: tuple[str, ...] = ()
    """Availability zones to try, in order."""
    disk_gb: Count = 200
    """Size of each machine's disk in GB."""
    image: str | None = None
    """Resource id of the machines' image; Microsoft's for GPUs by default."""


Provider = Annotated[
    Annotated[Local, variant("local")]
    | Annotated[RayAddress, variant("ray")]
    | Annotated[Kubernetes, variant("kubernetes")]
    | Annotated[OnPrem, variant("onprem")]
    | Annotated[AWS, variant("aws")]
    | Annotated[GCP, variant("gcp")]
    | Annotated[Azure, variant("azure")],
    chosen_by_type("local"),
]


class StorageSpec(Section):
    """Where data, runs and models are kept: a folder or an S3 bucket, or a map for more."""

    short = "url"

    url: Place = Field(default="./runs", validate_default=True)
    """A folder, or s3://BUCKET/PREFIX."""
    endpoint: str | None = None
    """URL of an S3 service that is not Amazon's."""
    region: str | None = None
    """Region of the bucket."""
    credentials: Secret | None = None
    """Secret with the keys access_key and secret_key; the usual search by default."""

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of the file system."""
        return "://" not in self.url
