"""How Ray is started on machines, and the environment that all of its processes inherit.

No value of a secret is here: files of mode 0600 are sent over ssh, and read where Ray starts.
"""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cluster.launcher.installation import FOLDER
from cluster.spec.references import Secret

if TYPE_CHECKING:
    from cluster.spec import Spec

TOKEN = f"{FOLDER}/token"
SECRETS = "~/.config/slipway/secrets"
ENVIRONMENT = f"{FOLDER}/environment"


def environment_command(spec: Spec) -> str:
    """Write the file that every start sources, and have login shells source it too."""
    lines = " ".join(shlex.quote(line) for line in _exports(spec))
    source = shlex.quote(f". {ENVIRONMENT}")
    draft = f"{FOLDER}/bashrc"
    return (
        f"mkdir -p {FOLDER} && printf '%s\\n' {lines} > {ENVIRONMENT} && touch ~/.bashrc && "
        # the first line, for what follows in it may return early
        f"(grep -qxF {source} ~/.bashrc || "
        f"{{ {{ echo {source}; cat ~/.bashrc; }} > {draft} && cp {draft} ~/.bashrc; }})"
    )


def head_commands(spec: Spec, arguments: str = "") -> list[str]:
    """Start the head. Its dashboard listens to the machine only: `slipway` comes by ssh."""
    start = (
        "ray start --head --port=6379 --object-manager-port=8076 --dashboard-host=127.0.0.1 "
        "--autoscaling-config=~/ray_bootstrap_config.yaml"
    )
    store = ""
    if spec.cluster.high_availability == "embedded":
        store = (
            f"mkdir -p {FOLDER}/gcs; export RAY_gcs_storage=rocksdb "
            f"RAY_gcs_storage_path=$HOME/.slipway/gcs; "
        )
    return [f". {ENVIRONMENT}; ray stop", _start(f"{store}{start}{arguments}")]


def worker_commands(arguments: str = "") -> list[str]:
    """Start a worker."""
    start = f"ray start --address=$RAY_HEAD_IP:6379 --object-manager-port=8076{arguments}"
    return [f". {ENVIRONMENT}; ray stop", _start(start)]


def file_mounts(spec: Spec) -> dict[str, str]:
    """Files that are sent to every machine, with their mode: Ray's token, and the secrets."""
    found = {TOKEN: f"~/.local/state/slipway/{spec.name}/token"}
    for name in secret_files(spec):
        found[f"{SECRETS}/{name}"] = f"{SECRETS}/{name}"
    return found


def secret_files(spec: Spec) -> list[str]:
    """The secrets that processes on the machines read, as names of files."""
    found = [str(value) for value in spec.cluster.env.values() if isinstance(value, Secret)]
    credentials = spec.cluster.storage.credentials
    if credentials is not None:
        found += [f"{credentials}/access_key", f"{credentials}/secret_key"]
    if spec.notify is not None:
        found.append(str(spec.notify.webhook))
    if spec.services.tokens is not None:
        found.append(str(spec.services.tokens))
    return sorted(set(found))


def _exports(spec: Spec) -> list[str]:
    provider = spec.cluster.provider
    folder = '"$HOME/.slipway/venv/bin:$PATH"'
    if provider.type == "onprem" and provider.python:
        folder = shlex.quote(str(PurePosixPath(provider.python).parent)) + '":$PATH"'
    lines = [
        f"export PATH={folder}",
        'export TORCH_EXTENSIONS_DIR="$HOME/.slipway/torch_extensions"',
        'export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$HOME/.slipway/token"',
        f"export RAY_USAGE_STATS_ENABLED=0 SLIPWAY_CLUSTER_ID={shlex.quote(spec.name)}",
        # the launcher sets both, and Ray's workers would inherit them: one thread each
        "unset OMP_NUM_THREADS PYTHONWARNINGS",
        "test -e /dev/nvidia0 || export DS_ACCELERATOR=cpu",
    ]
    if provider.type == "onprem":  # v2 never starts the last worker of hosts of one's own
        lines.append("export RAY_enable_autoscaler_v2=0")
    for name, value in spec.cluster.env.items():
        if isinstance(value, Secret):
            lines.append(f'export {name}="$(cat "$HOME/.config/slipway/secrets/{value}")"')
        else:
            lines.append(f"export {name}={shlex.quote(value)}")
    return lines


def _start(command: str) -> str:
    return f". {ENVIRONMENT}; ulimit -n 65536; {command}"
