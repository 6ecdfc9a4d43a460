"""YAML documents as data: the complete files that rendering starts from, and what it prints.

What is printed is read by others (kubectl and the launcher, by YAML 1.1), so a text that either
version of YAML could take for something else is quoted.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

Document = dict[str, Any]

# Booleans and nulls of YAML 1.1, and whatever may be a number, a date or a time.
_AMBIGUOUS = re.compile(r"(?i:y|n|yes|no|on|off|true|false|null|~|=|<<)|[-+.]?[0-9.].*|[-+.]+\w*")


def read_document(path: Path) -> Document:
    """A fresh copy of the one document in a file of ours."""
    (document,) = _read(path)
    return deepcopy(document)


def read_documents(path: Path) -> list[Document]:
    """Fresh copies of all documents in a file of ours."""
    return deepcopy(_read(path))


def write_documents(documents: Iterable[Document]) -> str:
    """The documents as one YAML stream."""
    out = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 4096
    for number, document in enumerate(documents):
        if number:
            out.write("---\n")
        yaml.dump(document, out)
    return out.getvalue()


@cache
def _read(path: Path) -> list[Document]:
    return list(YAML(typ="safe", pure=True).load_all(path.read_text(encoding="utf-8")))


class _Representer(SafeRepresenter):
    """Writes texts so that they stay texts, long ones as blocks, and nothing as an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> ScalarNode:
        style = None
        if "\n" in data:
            style = "|"
        elif _AMBIGUOUS.fullmatch(data):
            style = '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Representer.add_representer(str, _Representer.represent_str)
