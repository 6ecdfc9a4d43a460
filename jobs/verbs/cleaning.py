"""``clean``: shows what nobody needs any more, asks once, and removes it."""

from __future__ import annotations

from collections import Counter

from cluster.request import Request, WrongRequestError
from cluster.spec.grammar import parse_duration
from cluster.storage import open_storage
from jobs.cleaning import DAY_S, Removal, find_removals, remove
from jobs.uploads import ask_person


def clean(request: Request, older: str) -> None:
    """Remove what no alias and no lineage needs, and nothing younger than ``older``."""
    try:
        older_s = parse_duration(older)
    except ValueError as error:
        raise WrongRequestError(f"--older: {error}") from None
    spec = request.spec()
    storage = open_storage(spec.cluster.storage, spec.name)
    found = find_removals(storage, older_s)
    size = sum(removal.size for removal in found)
    columns = ["what", "name", "size", "age", "why"]
    request.table(columns, [_row(r) for r in found], f"nothing older than {older} can go")
    if not found or (request.json and not request.yes):  # a question is no JSON document
        removable = [removal.as_dict() for removal in found]
        request.answer({"removed": [], "bytes": 0, "removable": removable})
        return
    kinds = Counter(removal.kind for removal in found)
    what = ", ".join(f"{count} {kind}{_plural(kind, count)}" for kind, count in kinds.items())
    if not request.yes and not ask_person(f"Remove {what} ({_size(size)})?"):
        request.answer({"removed": [], "bytes": 0}, "nothing was removed")
        return
    gone = remove(storage, found, older_s)
    freed = sum(removal.size for removal in gone)
    kept = len(found) - len(gone)
    more = f"; {kept} stayed, because somebody uses them by now" if kept else ""
    request.answer(
        {"removed": [removal.as_dict() for removal in gone], "bytes": freed},
        f"removed {len(gone)} of these, {_size(freed)}{more}",
    )


def _row(removal: Removal) -> list[str]:
    days = f"{removal.age_s / DAY_S:.0f} days"
    return [removal.kind, removal.name, _size(removal.size), days, removal.reason]


def _plural(kind: str, count: int) -> str:
    return "" if count == 1 or kind == "data" else "s"


def _size(num_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:,.1f} {unit}"
    return f"{num_bytes} B"
