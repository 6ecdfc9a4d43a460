"""An account on EC2 as the place of a cluster: its machines are found by the tag of its name.

Everything that is made here carries the cluster's name, and ``down`` removes it, whatever machine
began it: machines, roles, the key pair, the security group.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cluster.clouds import explain_cloud
from cluster.connection import ClusterError
from cluster.launcher import permissions, ssh
from cluster.launcher.documents import key_name, launcher_document
from cluster.launcher.machines import HEAD, worker_types
from cluster.launcher.roles import make_role, remove_role
from cluster.launcher.sites import Ended, Report
from cluster.spec.clusters import POOL

if TYPE_CHECKING:
    from cluster.launcher.home import LaunchHome
    from cluster.spec import Spec

KIND = "ray-node-type"
LIVE = ("pending", "running", "stopping", "stopped")
KNOWN_TIMEOUT_S = 90.0
"""A new role is known to EC2 after some seconds."""
GONE_TIMEOUT_S = 600.0
LOOK_S = 2.0


class Account:
    """`provider: aws`; see `cluster.launcher.sites.Site`."""

    def __init__(self, spec: Spec, home: LaunchHome) -> None:
        import boto3  # slow to import
        import botocore.exceptions

        provider = spec.cluster.provider
        assert provider.type == "aws"
        self._spec, self._home, self._provider = spec, home, provider
        try:
            session = boto3.Session(profile_name=provider.profile, region_name=provider.region)
            self._ec2: Any = session.client("ec2")
            self._iam: Any = session.client("iam")
        except botocore.exceptions.ProfileNotFound as error:
            raise ClusterError(
                f"{error}; correct cluster.provider.profile, or: aws configure --profile "
                f"{provider.profile}"
            ) from error
        except botocore.exceptions.ConfigParseError as error:
            raise ClusterError(
                f"{error}; correct the file, or name another by AWS_CONFIG_FILE or "
                "AWS_SHARED_CREDENTIALS_FILE"
            ) from error
        except botocore.exceptions.BotoCoreError as error:
            raise ClusterError(meaning(error)) from error

    def least(self) -> int:
        return sum(node.least for node in worker_types(self._spec))

    def check(self, is_new: bool, report: Report) -> None:
        """Refuse an account that answers no questions, and a name that is taken there."""
        report(f"looking at {self._provider.region}")
        if is_new and (found := self.strangers()):
            raise ClusterError(f"{found}: choose another name:, or slipway down -y ends them")

    def strangers(self) -> str:
        count, name, region = len(self._instances()), self._spec.name, self._provider.region
        if not count:
            return ""
        return (
            f"{count} machines of a cluster {name} are in {region} already, which this machine did "
            "not begin"
        )

    def prepare(self, report: Report) -> None:
        """Make the roles and the key pair, and ask EC2 whether it would start each machine."""
        report("making the roles and the key of its machines, where they are not there yet")
        with understood():
            for document in permissions.roles(self._spec):
                make_role(self._iam, document)
            self._make_key()
        self._try_machines()

    def head(self) -> str:
        heads = [one for one in self._instances() if tags(one).get(KIND) == HEAD]
        if not heads:
            raise ClusterError(
                f"the head has gone from {self._provider.region}; slipway up makes another"
            )
        return self._address(heads[0])

    def addresses(self) -> list[str]:
        running = [one for one in self._instances() if one["State"]["Name"] == "running"]
        return [self._address(one) for one in running]

    def login(self) -> ssh.Login:
        return ssh.Login(self._home.known_hosts, self._provider.user, str(self._home.key))

    def end(self, report: Report) -> Ended:
        """End the head first, for it would make workers again; then all that carries the name."""
        count = 0
        deadline = time.monotonic() + GONE_TIMEOUT_S
        while found := self._instances():
            heads = [one for one in found if tags(one).get(KIND) == HEAD]
            names = [one["InstanceId"] for one in heads or found]
            report(f"ending {len(names)} machines" + (": the head" if heads else ""))
            with understood():
                self._ec2.terminate_instances(InstanceIds=names)
            count += len(names)
            while {one["InstanceId"] for one in self._instances()} & set(names):
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"{', '.join(names)} did not end within {GONE_TIMEOUT_S:.0f} s; they may "
                        "cost money: slipway down asks again, and the console shows why"
                    )
                time.sleep(LOOK_S)
        with understood():
            for kind in ("worker", "head"):
                remove_role(self._iam, permissions.role(self._spec, kind))
            self._ec2.delete_key_pair(KeyName=key_name(self._spec))
            self._remove_security_group()
        return Ended(count, "machines ended, and their disks with them; storage stays")

    def _instances(self) -> list[Any]:
        """The cluster's machines that cost money, or will."""
        wanted = {f"tag:{permissions.TAG}": [self._spec.name], "instance-state-name": list(LIVE)}
        filters = [{"Name": name, "Values": values} for name, values in wanted.items()]
        with understood():
            pages = self._ec2.get_paginator("describe_instances").paginate(Filters=filters)
            return [
                one for page in pages for each in page["Reservations"] for one in each["Instances"]
            ]

    def _address(self, instance: Any) -> str:
        name = "PrivateIpAddress" if self._provider.private else "PublicIpAddress"
        if name not in instance:
            raise ClusterError(
                f"{instance['InstanceId']} has no public address: its subnet gives none; where "
                "this machine reaches private ones (VPN), set cluster.provider.private: true"
            )
        return str(instance[name])

    def _make_key(self) -> None:
        """A key of the cluster's own: here the private half, the public one in the account."""
        if not self._home.key.exists():
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._home.key)]
            try:
                subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
            except FileNotFoundError as error:
                raise ClusterError(
                    "there is no ssh-keygen on this machine: apt install openssh-client"
                ) from error
            self._ec2.delete_key_pair(KeyName=key_name(self._spec))  # an earlier cluster's
        wanted = {"Name": "key-name", "Values": [key_name(self._spec)]}
        if not self._ec2.describe_key_pairs(Filters=[wanted])["KeyPairs"]:
            public = self._home.key.with_suffix(".pub").read_bytes()
            self._ec2.import_key_pair(KeyName=key_name(self._spec), PublicKeyMaterial=public)

    def _try_machines(self) -> None:
        """Ask for each type of machine without starting it: a pool needs one that may be had."""
        types = launcher_document(self._spec)["available_node_types"]
        pools: dict[str, dict[str, str]] = {}
        for name, node in types.items():
            pool = node["labels"].get(POOL, HEAD)
            pools.setdefault(pool, {})[name] = self._refusal(node["node_config"])
        for pool, refusals in pools.items():
            if all(refusals.values()):
                why = "; ".join(dict.fromkeys(refusals.values()))
                place = "the head" if pool == HEAD else f"pool {pool}"
                raise ClusterError(f"{place} cannot be started: {why}")

    def _refusal(self, config: dict[str, Any]) -> str:
        """Why a machine would not be started; "" where it would."""
        import botocore.exceptions

        deadline = time.monotonic() + KNOWN_TIMEOUT_S
        while True:
            try:
                self._ec2.run_instances(DryRun=True, MinCount=1, MaxCount=1, **config)
            except botocore.exceptions.ClientError as error:
                if error.response["Error"]["Code"] == "DryRunOperation":
                    return ""
                if "nstance Profile" not in str(error) or time.monotonic() > deadline:
                    return meaning(error)
            except botocore.exceptions.BotoCoreError as error:
                return meaning(error)
            time.sleep(LOOK_S)

    def _remove_security_group(self) -> None:
        """The one that the launcher made; one of the user's own stays."""
        import botocore.exceptions

        wanted = {"Name": "group-name", "Values": [permissions.group_name(self._spec)]}
        deadline = time.monotonic() + KNOWN_TIMEOUT_S
        for group in self._ec2.describe_security_groups(Filters=[wanted])["SecurityGroups"]:
            while True:
                try:
                    self._ec2.delete_security_group(GroupId=group["GroupId"])
                except botocore.exceptions.ClientError as error:
                    # a machine's network interface outlives it for some seconds
                    if "DependencyViolation" not in str(error) or time.monotonic() > deadline:
                        raise
                    time.sleep(LOOK_S)
                    continue
                break


def tags(instance: Any) -> dict[str, str]:
    """An instance's tags by their names."""
    return {each["Key"]: each["Value"] for each in instance.get("Tags", ())}


def meaning(error: Exception) -> str:
    """Cause and remedy of what botocore raised, in one line."""
    text = f"{type(error).__name__}: {error}"
    known = explain_cloud(text)
    return f"{known[0]}; {known[1]}" if known else f"Amazon refuses it: {error}"


@contextmanager
def understood() -> Iterator[None]:
    """Raises what botocore raises as a ClusterError with cause and remedy."""
    import botocore.exceptions

    try:
        yield
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        raise ClusterError(meaning(error)) from error
