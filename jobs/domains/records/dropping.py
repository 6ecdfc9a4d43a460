"""Records that cannot be used: counted by cause, the first of them remembered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jobs.domains.files import DataError
from jobs.domains.records.record import Bad

NUM_EXAMPLES = 5


@dataclass
class Dropped:
    """Causes with their counts, and "PLACE: CAUSE" of the first few records."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, bad: Bad, place: str = "") -> None:
        """Count a record, which stands at `place` where its own place says less."""
        self.counts[bad.kind] += 1
        if not self.has_examples:
            self.examples.append(f"{place or bad.place}: {bad.cause}")

    def include(self, counts: Mapping[str, int], examples: Sequence[str]) -> None:
        """Add what another has counted."""
        self.counts.update(counts)
        self.examples = (self.examples + list(examples))[:NUM_EXAMPLES]

    @property
    def has_examples(self) -> bool:
        """As many as are kept."""
        return len(self.examples) >= NUM_EXAMPLES

    @property
    def total(self) -> int:
        return self.counts.total()

    def __str__(self) -> str:
        """Counts by cause, the most frequent first: "3 not JSON, 1 empty"."""
        return ", ".join(f"{count:,} {cause}" for cause, count in self.counts.most_common())

    def told(self) -> str:
        """The first records, a line each."""
        return "".join(f"\n  {example}" for example in self.examples)

    def check(self, num_good: int, max_bad: float) -> dict[str, int]:
        """Counts by cause; DataError where their share is above `data.max_bad`."""
        num_all = self.total + num_good
        if self.total > max_bad * num_all:
            raise DataError(
                f"{self.total:,} of {num_all:,} records cannot be used ({self}), more than "
                f"data.max_bad ({max_bad:.3g} of all); the first:{self.told()}\n"
                "mend them, or raise data.max_bad"
            )
        return dict(sorted(self.counts.items()))

    def line(self, num_good: int) -> str:
        """One line for the screen; "" where nothing was dropped."""
        if not self.total:
            return ""
        return f"left out {self.total:,} of {self.total + num_good:,} records: {self}"
