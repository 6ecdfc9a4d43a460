"""How Ray is started on machines, and the environment that all of its processes inherit.

No value of a secret is here: files of mode 0600 are sent over ssh, and read where Ray starts.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from cluster.client import STOPPING
from cluster.home import state_folder
from cluster.launcher.home import identity
from cluster.launcher.installation import FOLDER, PYTHON
from cluster.processes import MARK
from cluster.secrets import FOLDER_VARIABLE, secrets_folder
from cluster.services import token_file
from cluster.spec.references import Secret

if TYPE_CHECKING:
    from cluster.spec import Spec

TOKEN = f"{FOLDER}/token"
SECRETS = f"{FOLDER}/secrets"
ENVIRONMENT = f"{FOLDER}/environment"
LIBRARY = f"{FOLDER}/library"
TLS = f"{FOLDER}/tls"
AUTHORITY = ("authority.pem", "authority.key")
"""Who signs the machines' certificates: made by ``up``, sent to all of them."""
CERTIFICATE = Path(__file__).parent / "remote" / "slipway_certificate.py"
"""What makes a machine's certificate."""
HEAD, KEEPER = (Path(__file__).parents[1] / name for name in ("head.py", "keeper.py"))
"""What starts the head, and what keeps its processes."""
PROGRAMS = (CERTIFICATE, HEAD, KEEPER)
"""Sent to all machines; put beside the cluster's token by ``up``."""
# The interface of the default route.
LINK = """awk '$2 == "00000000" {print $1; exit}'"""
# The processes whose parent is among $found.
CHILDREN = (
    """awk -v of=" $(echo $found) " '/^Pid:/ {id=$2} """
    """/^PPid:/ && index(of, " " $2 " ") {print id}' /proc/[0-9]*/status 2>/dev/null"""
)
# In ~/.bashrc, for login shells: what people type, and what the launcher runs.
SOURCED = f". {ENVIRONMENT}"


def environment_command(spec: Spec) -> str:
    """Write the file that every start sources, and have login shells source it too."""
    lines = " ".join(shlex.quote(line) for line in _exports(spec))
    source = shlex.quote(SOURCED)
    draft = f"{FOLDER}/bashrc"
    return (
        f"mkdir -p {FOLDER} && printf '%s\\n' {lines} > {ENVIRONMENT} && touch ~/.bashrc && "
        # the first line, for what follows in it may return early
        f"(grep -qxF {source} ~/.bashrc || "
        f"{{ {{ echo {source}; cat ~/.bashrc; }} > {draft} && cp {draft} ~/.bashrc; }})"
    )


def head_commands(spec: Spec) -> list[str]:
    """Start the head. Its dashboard listens to the machine only: `slipway` comes by ssh."""
    plan = {
        "port": 6379,
        "dashboard_port": 8265,
        "object_manager_port": 8076,
        "worker_ports": [10002, 19999],
        "autoscaling_config": "~/ray_bootstrap_config.yaml",
        "ready": f"{FOLDER}/ready.json",
    }
    # what an earlier cluster knew of its hosts and jobs is none of this one's
    start = f"rm -rf {FOLDER}/hosts.json {FOLDER}/gcs; "
    if spec.cluster.provider.type == "onprem":
        start += 'export PYTHONPATH="$HOME/.slipway/library"; '
    if spec.cluster.high_availability in ("auto", "embedded"):
        start += (
            f"mkdir -p {FOLDER}/gcs; export RAY_gcs_storage=rocksdb "
            f"RAY_gcs_storage_path=$HOME/.slipway/gcs; "
        )
    start += f"printf %s {shlex.quote(json.dumps(plan))} > {FOLDER}/head.json; "
    log = f"{FOLDER}/head.log"
    # a session of its own: the launcher's terminal ends, and the keeper stays
    start += (
        f"setsid -w {_python(spec)} -P {LIBRARY}/{HEAD.name} {FOLDER}/head.json > {log} 2>&1 "
        f"< /dev/null || {{ tail -n 5 {log}; exit 1; }}"
    )
    return [ending_command(spec), _start(spec, start)]


def worker_commands(spec: Spec) -> list[str]:
    """Start a worker."""
    start = "ray start --address=$RAY_HEAD_IP:6379 --object-manager-port=8076"
    return [ending_command(spec), _start(spec, start)]


def ending_command(spec: Spec) -> str:
    """End what runs of this cluster on a machine, and nothing else: `ray stop` ends all of Ray.

    Its processes inherit the mark; those that overwrote their environment are children of others.
    """
    return (
        f"ours=; for signal in TERM 0 0 0 KILL KILL; do found=$({marked(spec)}); "
        f'ours="$ours $found "$({CHILDREN}); kill -$signal $ours 2>/dev/null || break; '
        "sleep 1; done; true"
    )


def marked(spec: Spec) -> str:
    """A command that prints the ids of the cluster's processes on a machine."""
    return f"grep -lzxF {MARK}={spec.name} /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3"


def file_mounts(spec: Spec) -> dict[str, str]:
    """Files that are sent to every machine, with their mode: what Ray trusts, and the secrets."""
    found = {TOKEN: own_file(spec, "token")}
    for program in PROGRAMS:
        found |= library_mount(spec, program.name)
    found |= {f"{TLS}/{name}": own_file(spec, name) for name in AUTHORITY}
    for name in secret_files(spec):
        found[f"{SECRETS}/{name}"] = f"{_short(secrets_folder())}/{name}"
    return found


def library_mount(spec: Spec, name: str) -> dict[str, str]:
    """A file of ours that Ray loads on the head; ``up`` puts it beside the cluster's token."""
    return {f"{LIBRARY}/{name}": own_file(spec, name)}


def own_file(spec: Spec, name: str) -> str:
    """A file that this machine keeps for the cluster, as the launcher reads its place."""
    return f"{_short(state_folder())}/{identity(spec)}/{name}"


def given_python(spec: Spec) -> str | None:
    """The interpreter that the machines have with all packages; None where ``up`` installs them."""
    provider = spec.cluster.provider
    return provider.python if provider.type in ("onprem", "aws") else None


def secret_files(spec: Spec) -> list[str]:
    """The secrets that processes on the machines read, as names of files."""
    found = [str(value) for value in spec.cluster.env.values() if isinstance(value, Secret)]
    credentials = spec.cluster.storage.credentials
    if credentials is not None:
        found += [f"{credentials}/access_key", f"{credentials}/secret_key"]
    if spec.notify is not None:
        found.append(str(spec.notify.webhook))
    if spec.services.tokens is not None or any(model.serve for model in spec.models.values()):
        found.append(token_file(spec).relative_to(secrets_folder()).as_posix())
    return sorted(set(found))


def _exports(spec: Spec) -> list[str]:
    provider = spec.cluster.provider
    folder, extensions = '"$HOME/.slipway/venv/bin:$PATH"', '"$HOME/.slipway/torch_extensions"'
    if python := given_python(spec):
        place = PurePosixPath(python).parent
        folder = shlex.quote(str(place)) + '":$PATH"'
        extensions = shlex.quote(str(place.parent / "torch_extensions"))
    lines = [
        f"export PATH={folder}",
        f"export TORCH_EXTENSIONS_DIR={extensions}",
        'export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$HOME/.slipway/token"',
        'export RAY_USE_TLS=1 RAY_TLS_CA_CERT="$HOME/.slipway/tls/authority.pem"',
        'export RAY_TLS_SERVER_CERT="$HOME/.slipway/tls/node.pem"',
        'export RAY_TLS_SERVER_KEY="$HOME/.slipway/tls/node.key"',
        f"export RAY_USAGE_STATS_ENABLED=0 SLIPWAY_CLUSTER_ID={shlex.quote(spec.name)}",
        f'export {FOLDER_VARIABLE}="$HOME/.slipway/secrets"',
        "export " + " ".join(f"{name}={value}" for name, value in STOPPING.items()),
        # the launcher sets both, and Ray's workers would inherit them: one thread each
        "unset OMP_NUM_THREADS PYTHONWARNINGS",
        "test -e /dev/nvidia0 || export DS_ACCELERATOR=cpu",
        # Gloo asks for the address of the machine's name, which many resolve to the loopback: no
        # worker on another host would find this one
        f"link=$({LINK} /proc/net/route)",
        'test -z "$link" || export GLOO_SOCKET_IFNAME=$link',
    ]
    if provider.type == "onprem":
        # v2 never starts the last worker of hosts of one's own; and these are up or they are not:
        # one that does not answer for half a minute is left for another
        lines.append("export RAY_enable_autoscaler_v2=0 AUTOSCALER_NODE_START_WAIT_S=30")
    for name, value in spec.cluster.env.items():
        if isinstance(value, Secret):
            lines.append(f'export {name}="$(cat "$HOME/.slipway/secrets/{value}")"')
        else:
            lines.append(f"export {name}={shlex.quote(value)}")
    return lines


def _start(spec: Spec, command: str) -> str:
    mark = f"export {MARK}={spec.name}"
    certify = f"{_python(spec)} {LIBRARY}/{CERTIFICATE.name} {TLS} || exit 1"
    return f"{SOURCED}; ulimit -n 65536; {mark}; {certify}; {command}"


def _python(spec: Spec) -> str:
    given = given_python(spec)
    return shlex.quote(given) if given else PYTHON


def _short(folder: Path) -> str:
    """The folder as the launcher expands it, without the name of who renders."""
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)
