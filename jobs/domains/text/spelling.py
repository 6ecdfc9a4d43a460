"""The bytes that tokens stand for, by how a tokenizer spells them."""

from __future__ import annotations


def bytes_of(token: tuple[str, str]) -> bytes:
    """A token as (kind, text); kind is "mark", "bytes", "pieces" or "plain"."""
    kind, text = token
    if kind == "mark":
        return b""
    if kind == "plain":
        return text.encode()
    if kind == "bytes":
        return bytes(BYTE_OF[char] for char in text if char in BYTE_OF)
    if len(text) == 6 and text.startswith("<0x"):
        return bytes([int(text[3:5], 16)])
    return text.removeprefix("##").replace("\u2581", " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """The printable stand-in of each byte in byte-level BPE, as in GPT-2's encoder.py."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    stand_ins = {chr(256 + i): byte for i, byte in enumerate(others)}
    return {chr(byte): byte for byte in printable} | stand_ins


BYTE_OF = _byte_alphabet()
