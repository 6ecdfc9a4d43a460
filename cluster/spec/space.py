"""Checks of ``tune.space`` against the model it searches."""

from pathlib import Path

from cluster.spec.document import Spec
from cluster.spec.problems import Problem
from cluster.spec.translate import Locator


def check_space(spec: Spec, locator: Locator, root: Path) -> list[Problem]:
    return []
