"""What a fresh machine is made of: the Python of this process, and the versions of constraints.txt.

Commands for the launcher, which runs them over ssh in a login shell. Each may run again: what is
there is left alone.
"""

from __future__ import annotations

import platform
import re
import shlex
from collections.abc import Iterator
from importlib import metadata

from cluster.code import ROOT

FOLDER = "~/.slipway"
PYTHON = f"{FOLDER}/venv/bin/python"
UV = "uv==0.13.9"
# Compiled once at set-up: the first run would wait a minute or two for each.
BUILDERS = ("ShareMemCommBuilder", "CPUAdamBuilder")


def setup_commands() -> list[str]:
    """Python, the pinned packages and DeepSpeed's extensions, in FOLDER."""
    version = ".".join(platform.python_version_tuple()[:2])
    pinned = " ".join(shlex.quote(line) for line in pins())
    wanted = " ".join(shlex.quote(line) for line in requirements())
    build = "".join(f"a.create_op_builder('{name}').load(verbose=False);" for name in BUILDERS)
    return [
        f"mkdir -p {FOLDER} && printf '%s\\n' {pinned} > {FOLDER}/constraints.txt",
        f"test -x {PYTHON} || (python3 -m pip install --user --quiet {UV} "
        f"&& python3 -m uv venv --quiet --seed --python {version} {FOLDER}/venv)",
        f"{PYTHON} -m pip install --quiet -c {FOLDER}/constraints.txt {wanted}",
        f"TORCH_EXTENSIONS_DIR={FOLDER}/torch_extensions PATH={FOLDER}/venv/bin:$PATH {PYTHON} -c "
        f'"from deepspeed.accelerator import get_accelerator; a = get_accelerator(); {build}" '
        "|| echo 'DeepSpeed compiles at the first run: is g++ there?'",
    ]


def pins() -> list[str]:
    """The exact versions: of constraints.txt, or of this installation where that file is absent."""
    path = ROOT / "constraints.txt"
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if line and not line.startswith("#")]
    return sorted(set(_installed("slipway", set())), key=str.lower)


def requirements() -> list[str]:
    """What this package needs, without what only tests and tools need."""
    return [line for line in metadata.requires("slipway") or () if "extra ==" not in line]


def _installed(name: str, seen: set[str]) -> Iterator[str]:
    """The installed versions of everything a distribution needs."""
    for line in metadata.requires(name) or ():
        needed = re.match(r"[\w.-]+", line)
        if needed is None or "extra ==" in line or needed[0].lower() in seen:
            continue
        seen.add(needed[0].lower())
        try:
            yield f"{needed[0]}=={metadata.version(needed[0])}"
        except metadata.PackageNotFoundError:  # for another platform or Python
            continue
        yield from _installed(needed[0], seen)
