"""Makes and removes the roles that `cluster.launcher.permissions` describes. May run again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cluster.documents import Document

POLICY = "slipway"


def make_role(iam: Any, document: Document) -> None:
    """The role with its one policy, and its instance profile; what is there already stays."""
    name, profile = document["role"], document["instance_profile"]
    gone = iam.exceptions.NoSuchEntityException
    try:
        iam.get_role(RoleName=name)
    except gone:
        trust = json.dumps(document["trust"])
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
    if document["policy"]["Statement"]:
        policy = json.dumps(document["policy"])
        iam.put_role_policy(RoleName=name, PolicyName=POLICY, PolicyDocument=policy)
    try:
        found = iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]
    except gone:
        found = iam.create_instance_profile(InstanceProfileName=profile)["InstanceProfile"]
    if name not in [role["RoleName"] for role in found["Roles"]]:
        iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=name)


def remove_role(iam: Any, name: str) -> None:
    """The role, its policy and its instance profile, as far as they are there."""
    gone = iam.exceptions.NoSuchEntityException
    steps: tuple[Callable[[], object], ...] = (
        lambda: iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name),
        lambda: iam.delete_instance_profile(InstanceProfileName=name),
        lambda: iam.delete_role_policy(RoleName=name, PolicyName=POLICY),
        lambda: iam.delete_role(RoleName=name),
    )
    for step in steps:
        try:
            step()
        except gone:
            continue
