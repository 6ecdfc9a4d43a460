"""Combinations that cannot work, refused before anything starts."""

from cluster.spec.document import Spec
from cluster.spec.problems import Problem
from cluster.spec.translate import Locator


def check(spec: Spec, locator: Locator) -> list[Problem]:
    return []
