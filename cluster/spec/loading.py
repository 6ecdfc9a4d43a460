"""From a file to a checked spec."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cluster.spec.checks import check
from cluster.spec.document import Spec
from cluster.spec.merge import (
    apply_environment,
    apply_overrides,
    check_environments,
    without_environments,
)
from cluster.spec.models import ModelSpec
from cluster.spec.problems import Problem, SpecError
from cluster.spec.salvage import salvage, still_means
from cluster.spec.section import Section
from cluster.spec.space import check_space
from cluster.spec.translate import Finding, Locator, explain
from cluster.spec.tree import LARGEST_BYTES, Tree, read_yaml


def load(
    path: str | Path,
    environment: str | None = None,
    overrides: Sequence[str] = (),
    root: Path | None = None,
) -> Spec:
    """The spec in a YAML file, with an environment and ``--set`` overrides laid over it.

    Relative paths start at ``root``, by default the file's folder. Raises SpecError, which
    holds all that is wrong with the file at once.
    """
    tree = _read_file(Path(path))
    problems = check_environments(tree)
    if problems:
        raise SpecError(problems)
    folder = Path(root or Path(path).absolute().parent).absolute()
    problems = _other_environments(tree, environment, folder)
    chosen = apply_environment(tree, environment) if environment else without_environments(tree)
    spec, found = _parse(apply_overrides(chosen, overrides), folder)
    problems = sorted(dict.fromkeys(found + problems), key=lambda p: (p.file, p.line or 0))
    if problems or spec is None:
        raise SpecError(problems)
    return spec


def parse_model(document: Mapping[str, Any]) -> ModelSpec:
    """The model that a bundle's ``spec`` holds: dumped once, so that all paths are absolute."""
    context: dict[str, Any] = {"root": Path("/"), "sections": {}}
    return ModelSpec.model_validate(document, context=context)


def _parse(tree: Tree, root: Path) -> tuple[Spec | None, list[Problem]]:
    """The spec, if it has no problems, and all that it has."""
    locator = Locator(tree)
    spec, found = _validate(locator.plain, root)
    if spec is not None:
        found = [*check(spec), *check_space(spec)]
    else:
        rest, lost = salvage(locator.plain, found)
        spec = None if ("cluster",) in lost else _validate(rest, root)[0]
        checked = [*check(spec), *check_space(spec)] if spec else []
        found += [(message, path) for message, path in checked if still_means(path, lost)]
    problems = [locator.problem(message, *path) for message, path in found]
    return (None if problems else spec), problems


def _validate(plain: Any, root: Path) -> tuple[Spec | None, list[Finding]]:
    """The spec, or what is wrong with single keys and values."""
    sections: dict[int, type[Section]] = {}
    try:
        spec = Spec.model_validate(plain, context={"root": root, "sections": sections})
    except ValidationError as error:
        return None, explain(error, plain, sections)
    spec._root = root
    return spec, []


def _other_environments(tree: Tree, chosen: str | None, root: Path) -> list[Problem]:
    """What can be said of the environments that are not asked for: keys and types."""
    part = tree.value.get("environments")
    problems: list[Problem] = []
    for name in (part.value or {}) if part else ():
        if name != chosen:
            locator = Locator(apply_environment(tree, name))
            found = [
                locator.problem(message, *path)
                for message, path in _validate(locator.plain, root)[1]
            ]
            problems += [p for p in found if p.path.startswith(f"environments.{name}.")]
    return problems


def _read_file(path: Path) -> Tree:
    text = _read_text(path)
    tree = read_yaml(text, str(path))
    if tree is None or tree.value is None:
        raise _refused(path, "is empty; write at least one model, or run: slipway init")
    if not isinstance(tree.value, dict):
        kind = "a list" if isinstance(tree.value, list) else "a bare value"
        raise _refused(path, f"holds {kind}, not a map with cluster: and models:", tree.line)
    return tree


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            raise _refused(path, "is a folder; name the YAML file in it")
        if path.stat().st_size > LARGEST_BYTES:
            raise _refused(path, "is larger than 1 MiB; is it the YAML?")
        content = path.read_bytes()
    except FileNotFoundError:
        raise _refused(path, "does not exist; write one with: slipway init") from None
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refused(path, "is not UTF-8; save it as UTF-8", line) from None


def _refused(path: Path, message: str, line: int | None = None) -> SpecError:
    return SpecError([Problem(message, str(path), line)])
