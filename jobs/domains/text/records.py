"""What readers of text yield, and how they are told to read."""

from dataclasses import dataclass

from jobs.domains.files import Source


@dataclass(frozen=True)
class Document:
    """A document, or a chunk of one that is too large to hold."""

    text: str
    opens: bool = True
    """The document starts here."""
    closes: bool = True
    """The document ends here."""
    place: str = ""
    """"FILE:LINE", for messages."""
    after: int = 0
    """The byte that the line's number counts from."""

    @property
    def is_empty(self) -> bool:
        """Nothing but white space, and all of it is here."""
        return self.opens and self.closes and (not self.text or self.text.isspace())


@dataclass(frozen=True)
class Layout:
    """The parts of `data:` that say how files are read."""

    column: str | int = "text"
    encoding: str = "auto"


@dataclass(frozen=True)
class Reading:
    """A file with its format ("text", "jsonl", "csv", "tsv", "parquet", "builtin") and codec."""

    source: Source
    form: str
    encoding: str
    layout: Layout
