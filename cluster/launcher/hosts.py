"""Hosts of one's own, looked at before anything is changed on them: all at once, each in a line."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.launcher import ssh
from cluster.launcher.installation import FOLDER
from cluster.launcher.startup import (
    ENVIRONMENT,
    LINK,
    SECRETS,
    SOURCED,
    TOKEN,
    ending_command,
    marked,
)
from cluster.processes import MARK

if TYPE_CHECKING:
    from cluster.spec import Spec
    from cluster.spec.providers import OnPrem

CLOCKS_APART_S = 5.0
# The packages take 2.5 GB, or 7 with CUDA's; with the interpreter given Ray's own files are left.
INSTALLED_KIB, LEAST_KIB = 8 * 2**20, 2**20
LOOK = f"""
echo "clock $(date +%s)"
echo "disk $(df -Pk ~ | awk 'NR==2 {{print $4}}')"
for word in rsync python3; do command -v $word >/dev/null && echo "has $word"; done
test -z "$({LINK} /proc/net/route)" || echo "has route"
cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep '^{MARK}=' | sort -u
"""


@dataclass(frozen=True)
class Look:
    """What was seen of a host that answers."""

    host: str
    clock_s: float
    """Ahead of this machine's."""
    disk_kib: int
    has: frozenset[str]
    clusters: frozenset[str]
    """Names of the clusters whose processes run there."""


def look_at(login: ssh.Login, hosts: Sequence[str]) -> tuple[list[Look], dict[str, str]]:
    """The hosts that answer, and for each that does not its line of cause and remedy."""

    def ask(host: str) -> tuple[float, ssh.Answer, float]:
        return time.time(), ssh.run(login, host, LOOK), time.time()

    with ThreadPoolExecutor(max_workers=32) as pool:
        answers = list(pool.map(ask, hosts))
    found, silent = [], {}
    for asked, answer, answered in answers:
        if answer.connected:
            found.append(read_look(answer, asked, answered))
        else:
            silent[answer.host] = ssh.refusal(login, answer.host, answer.errors)
    return found, silent


def read_look(answer: ssh.Answer, asked: float, answered: float) -> Look:
    """What a host's answer says, which was given between two times of this machine."""
    pairs = [line.split(" ", 1) for line in answer.output.splitlines() if " " in line]
    facts = dict(pair for pair in pairs if pair[0] in ("clock", "disk"))
    clusters = [
        line.removeprefix(f"{MARK}=")
        for line in answer.output.splitlines()
        if line.startswith(f"{MARK}=")
    ]
    clock = float(facts.get("clock", asked))
    return Look(
        host=answer.host,
        clock_s=clock - min(max(clock, asked), answered),
        disk_kib=int(facts.get("disk", 0)),
        has=frozenset(word for kind, word in pairs if kind == "has"),
        clusters=frozenset(clusters),
    )


def faults(looks: Iterable[Look], spec: Spec) -> list[str]:
    """What keeps hosts from being used, a line each."""
    provider = spec.cluster.provider
    assert provider.type == "onprem"
    needed = LEAST_KIB if provider.python else INSTALLED_KIB
    found = []
    for look in looks:
        if "rsync" not in look.has:
            found.append(f"{look.host}: has no rsync; apt install rsync there")
        if not provider.python and "python3" not in look.has:
            found.append(f"{look.host}: has no python3; apt install python3-pip there")
        if "route" not in look.has:
            found.append(
                f"{look.host}: has no default route, so that Ray takes 127.0.0.1 for its address "
                "and nobody joins; add one there: ip route add default via GATEWAY"
            )
        if look.disk_kib < needed:
            free, wanted = look.disk_kib / 2**20, needed / 2**20
            found.append(
                f"{look.host}: {free:.1f} GiB free at ~, {wanted:.0f} are needed; free some there"
            )
        if abs(look.clock_s) > CLOCKS_APART_S:
            side = "fast" if look.clock_s > 0 else "slow"
            found.append(
                f"{look.host}: its clock is {abs(look.clock_s):.0f} s {side} against this "
                "machine's, and leases and logs go by time; there: timedatectl set-ntp true"
            )
        for other in sorted(look.clusters - {spec.name}):
            found.append(f"{look.host}: belongs to the cluster {other}; end that one first")
    return found


def end(login: ssh.Login, spec: Spec, provider: OnPrem) -> tuple[int, dict[str, str]]:
    """End the cluster on all of its hosts, the head first: else it would start workers again.

    What was sent there goes, the installed packages stay. Returns how many processes ended, and
    for each host that was not reached its line of cause and remedy.
    """
    script = ending_script(spec)
    answers = [ssh.run(login, provider.head, script)]
    with ThreadPoolExecutor(max_workers=32) as pool:
        others = [host.address for host in provider.hosts if host.address != provider.head]
        answers += pool.map(lambda host: ssh.run(login, host, script), others)
    counts = [int(word) for answer in answers if (word := answer.output.strip()).isdigit()]
    unreachable = {
        answer.host: ssh.refusal(login, answer.host, answer.errors)
        for answer in answers
        if not answer.connected
    }
    return sum(counts), unreachable


def put_secret(login: ssh.Login, hosts: Sequence[str], name: str, content: str) -> dict[str, str]:
    """Replace a secret on hosts, where `up` sent it; a line of cause for each out of reach."""
    place = f"{SECRETS}/{name}"
    end = f"END-{secrets.token_hex(8)}"
    script = (
        f"umask 077; mkdir -p $(dirname {place}); cat > {place}.new <<'{end}'\n{content.rstrip()}\n"
        f"{end}\nmv {place}.new {place}\n"
    )
    with ThreadPoolExecutor(max_workers=32) as pool:
        answers = list(pool.map(lambda host: ssh.run(login, host, script), hosts))
    return {
        answer.host: ssh.refusal(login, answer.host, answer.errors)
        for answer in answers
        if not answer.connected
    }


def ending_script(spec: Spec) -> str:
    """What ends a cluster on one host, and prints how many processes that were."""
    sent = [TOKEN, SECRETS, ENVIRONMENT, *(f"{FOLDER}/{name}" for name in _MADE)]
    line = shlex.quote(rf"\|^{SOURCED.replace('.', '[.]', 1)}$|d")
    return "\n".join(
        (
            f"{marked(spec)} | wc -l",
            ending_command(spec),
            f"rm -rf {' '.join(sent)} ~/ray_bootstrap_key.pem ~/ray_bootstrap_config.yaml",
            f"test -f ~/.bashrc && sed -i {line} ~/.bashrc",
            # its sessions' sockets and logs, unless another Ray is at home there; runs' are stored
            "pgrep -x raylet >/dev/null || rm -rf /tmp/ray /tmp/ray_ssh_*",
            f"rmdir {FOLDER} 2>/dev/null; true",
        )
    )


_MADE = (
    "library",
    "tls",
    "hosts.json",
    "gcs",
    "bashrc",
    "head.json",
    "head.log",
    "keeper.json",
    "ready.json",
)
