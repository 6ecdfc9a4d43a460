"""Rights on AWS: the head may make and end the cluster's own instances; all may use its storage.

Ray's own role has full access to EC2 and S3; these name the bucket, the cluster and the region.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cluster.documents import Document

if TYPE_CHECKING:
    from cluster.spec import Spec

VERSION = "2012-10-17"
TAG = "ray-cluster-name"
# What an instance is started with, which carries no tag of the cluster then.
BESIDE = (
    "key-pair",
    "network-interface",
    "security-group",
    "spot-instances-request",
    "subnet",
    "volume",
)


def role(spec: Spec, kind: str) -> str:
    """The name of a role and of its instance profile; kind is head or worker."""
    return f"slipway-{spec.name}-{kind}"


def group_name(spec: Spec) -> str:
    """The name of the security group that the launcher makes."""
    return f"slipway-{spec.name}"


def roles(spec: Spec) -> list[Document]:
    """The two roles that ``up`` makes, each with its instance profile of the same name."""
    storage = storage_statements(spec)
    return [
        _role(role(spec, "head"), [*instance_statements(spec), *storage]),
        _role(role(spec, "worker"), storage),
    ]


def storage_statements(spec: Spec) -> list[Document]:
    """The spec's own folder of the bucket; nothing where the storage is not Amazon's."""
    storage = spec.cluster.storage
    if storage.endpoint or storage.is_local:
        return []
    place = urlsplit(storage.url)
    folder = "/".join(filter(None, (place.path.strip("/"), spec.name)))
    bucket = f"arn:aws:s3:::{place.netloc}"
    return [
        _allow("ListOwnFolder", ["s3:ListBucket"], bucket)
        | {"Condition": {"StringLike": {"s3:prefix": [folder, f"{folder}/*"]}}},
        _allow("FindBucket", ["s3:GetBucketLocation"], bucket),
        _allow(
            "UseOwnFolder",
            [
                "s3:GetObject",
                "s3:PutObject",
                "s3:DeleteObject",
                "s3:AbortMultipartUpload",
                "s3:ListMultipartUploadParts",
            ],
            f"{bucket}/{folder}/*",
        ),
    ]


def instance_statements(spec: Spec) -> list[Document]:
    """Instances that carry the cluster's tag, in its region, with the worker's role or none."""
    provider = spec.cluster.provider
    assert provider.type == "aws"
    ec2 = f"arn:aws:ec2:{provider.region}"
    instances = f"{ec2}:*:instance/*"
    ours = {"StringEquals": {f"aws:ResourceTag/{TAG}": spec.name}}
    asked = {"StringEquals": {f"aws:RequestTag/{TAG}": spec.name}}
    return [
        _allow("See", ["ec2:Describe*"], "*")
        | {"Condition": {"StringEquals": {"aws:RequestedRegion": provider.region}}},
        _allow("StartTagged", ["ec2:RunInstances"], instances) | {"Condition": asked},
        _allow(
            "StartWith",
            ["ec2:RunInstances"],
            [f"{ec2}::image/*", *(f"{ec2}:*:{kind}/*" for kind in BESIDE)],
        ),
        _allow("TagAtStart", ["ec2:CreateTags"], f"{ec2}:*:*/*")
        | {"Condition": {"StringEquals": {"ec2:CreateAction": "RunInstances"}}},
        _allow("TagAndEndOwn", ["ec2:CreateTags", "ec2:TerminateInstances"], instances)
        | {"Condition": ours},
        _allow(
            "GiveWorkersTheirRole", ["iam:PassRole"], f"arn:aws:iam::*:role/{role(spec, 'worker')}"
        )
        | {"Condition": {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}},
        _allow(
            "FindImage",
            ["ssm:GetParameters"],
            f"arn:aws:ssm:{provider.region}::parameter/aws/service/deeplearning/*",
        ),
    ]


def _role(name: str, statements: list[Document]) -> Document:
    trust = _allow("Instances", ["sts:AssumeRole"], None)
    trust["Principal"] = {"Service": "ec2.amazonaws.com"}
    return {
        "role": name,
        "instance_profile": name,
        "trust": {"Version": VERSION, "Statement": [trust]},
        "policy": {"Version": VERSION, "Statement": statements},
    }


def _allow(sid: str, actions: list[str], resources: Any) -> Document:
    statement: Document = {"Sid": sid, "Effect": "Allow", "Action": actions}
    return statement | ({} if resources is None else {"Resource": resources})
