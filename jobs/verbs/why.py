"""``why``: where an alias, a version or a run comes from, and what no longer matches."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

from cluster.request import Request
from cluster.storage import open_storage
from jobs.lineage import Node, trace
from jobs.plots import number

if TYPE_CHECKING:
    from rich.tree import Tree

SHORT = 12
MOST_SOURCES = 12


def why(request: Request, what: str) -> None:
    """Print the lineage as a tree, or as JSON."""
    spec = request.spec()
    node = trace(open_storage(spec.cluster.storage, spec.name), what)
    problems = list(node.all_problems())
    request.answer(
        {"what": what, "matches": not problems, "problems": problems, "lineage": node.as_dict()}
    )
    if request.json:
        return
    _print(node)
    if problems:
        request.say(f"\n{len(problems)} no longer match what was recorded:")
        for problem in problems:
            request.say(f"  {problem}")
    else:
        request.say("\neverything that is stored matches its digest")


def _print(node: Node) -> None:
    from rich.console import Console
    from rich.tree import Tree

    tree = Tree(_line(node))
    _grow(tree, node)
    if sys.stdout.isatty():
        Console(highlight=False).print(tree)
        return
    written = io.StringIO()
    Console(width=400, highlight=False, file=written).print(tree)
    print("\n".join(line.rstrip() for line in written.getvalue().splitlines()))


def _grow(tree: Tree, node: Node) -> None:
    from rich.text import Text

    sources = [child for child in node.made_from if child.kind == "source"]
    hidden = {id(s) for s in sources[MOST_SOURCES:] if not s.problems}
    for child in node.made_from:
        if id(child) not in hidden:
            _grow(tree.add(_line(child)), child)
    if hidden:
        tree.add(Text(f"and {len(hidden):,} more sources, unchanged", style="dim"))


def _line(node: Node) -> Any:
    """One line: the thing in bold, its facts, in red what no longer matches."""
    from rich.text import Text

    name = node.name[:SHORT] if node.kind == "data" else node.name
    text = Text.assemble((f"{node.kind} ", "dim"), (name, "bold"))
    for key, value in node.facts.items():
        text.append(f"  {key} ", style="dim")
        text.append(_short(key, value))
    for problem in node.problems:
        text.append(f"  ✗ {problem}", style="red")
    return text


def _short(key: str, value: Any) -> str:
    if key in ("digest", "sha256"):
        return str(value)[:SHORT]
    if isinstance(value, dict):
        return ", ".join(f"{name} {_number(inside)}" for name, inside in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no, another one is"
    return f"{value:,}" if isinstance(value, int) and key == "size" else str(value)


def _number(value: Any) -> str:
    if isinstance(value, int | float):
        return number(value)
    return "nothing yet" if value is None else str(value)
