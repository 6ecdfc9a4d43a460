"""How the records of many files are cut into pieces that are encoded apart."""

from collections.abc import Sequence
from itertools import pairwise

PIECES = 8
PIECE_RECORDS = 8192
"""Data are cut into so many pieces at most, none of fewer records than this but the last."""
Piece = list[tuple[int, int, int]]
"""(file, start, stop): records start <= i < stop of a file; several where files are small."""


def cut(starts: Sequence[int]) -> list[Piece]:
    """Pieces of about equal size: parts of large files, several small files together."""
    size = max(PIECE_RECORDS, -(-starts[-1] // PIECES))
    pieces: list[Piece] = []
    room = 0
    for file, (begin, end) in enumerate(pairwise(starts)):
        start = 0
        while start < end - begin:
            if not room:
                pieces.append([])
                room = size
            many = min(room, end - begin - start)
            pieces[-1].append((file, start, start + many))
            start, room = start + many, room - many
    return pieces
