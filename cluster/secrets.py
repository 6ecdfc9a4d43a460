"""Secrets by name: one file of mode 0600 each, in ~/.config/slipway/secrets.

The YAML holds `{secret: NAME}` or `{secret: NAME/KEY}`. The value is read where it is needed and
goes nowhere else: not into logs, rendered output, process arguments or what is pickled.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.spec.references import Secret

FOLDER_VARIABLE = "SLIPWAY_SECRETS"
OTHERS = stat.S_IRWXG | stat.S_IRWXO
# Kubernetes mounts a pod's Secrets for the pod's own group (fsGroup), which nobody else is in.
IN_POD = "KUBERNETES_SERVICE_HOST"


class SecretError(ValueError):
    """A secret that is absent, empty or open to others; the text says what to do."""


def secrets_folder() -> Path:
    """$SLIPWAY_SECRETS, or ~/.config/slipway/secrets."""
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given) if given else Path.home() / ".config" / "slipway" / "secrets"


def resolve(secret: Secret) -> str:
    """The value of a Secret of the spec; SecretError where it cannot be had."""
    return read_secret(str(secret))


def resolve_key(secret: Secret, key: str) -> str:
    """The value of one key of a Secret that has several: S3's `access_key` and `secret_key`."""
    return read_secret(f"{secret}/{key}")


def read_secret(name: str) -> str:
    """The content of the secret's file, without the line break at its end."""
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise SecretError(f"secret {name!r}: not a name; write NAME or NAME/KEY")
    path = secrets_folder() / name
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise SecretError(f"secret {name}: {path} is a folder; name a key in it: {name}/KEY")
        if is_open(mode):
            others = f"{stat.S_IMODE(mode):04o}"
            raise SecretError(
                f"secret {name}: others can read {path} (mode {others}); run: chmod 600 {path}"
            )
        value = path.read_text(encoding="utf-8").rstrip("\r\n")
    except FileNotFoundError:
        raise SecretError(f"secret {name}: there is no {path}; {_recipe(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SecretError(f"secret {name}: cannot read {path}: {cause}") from None
    if not value:
        raise SecretError(f"secret {name}: {path} is empty; {_recipe(path)}")
    return value


def is_open(mode: int) -> bool:
    """Whether others can read a file of this mode."""
    return bool(mode & (stat.S_IWGRP | stat.S_IRWXO if IN_POD in os.environ else OTHERS))


def _recipe(path: Path) -> str:
    return (
        f"run: (umask 077; mkdir -p {path.parent}; cat > {path}), type the value, end with Ctrl-D"
    )
