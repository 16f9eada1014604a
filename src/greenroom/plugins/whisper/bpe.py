"""Byte-level byte-pair encoding from a `tokenizer.json`: token numbers to text, and text to token numbers.

Only what Whisper's tokenizer needs, in place of a package that brings a dozen others.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["BytePairs"]

# Contractions, words, numbers, other signs, each with the space before them, then spaces. "\w" without digits and "_" is
# Unicode's letters and the few numbers that are no digits (1/2 as one sign).
_PIECES = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


def _byte_letters() -> dict[int, str]:
    """The letter that stands for each byte: itself where it can be printed, else one from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        letters.setdefault(byte, chr(256 + len(letters) - len(printable)))
    return letters


class BytePairs:
    """`special`: numbers of the control tokens by name."""

    def __init__(self, content: dict[str, Any]) -> None:
        model = content["model"]
        self._numbers: dict[str, int] = model["vocab"]
        self._letters = _byte_letters()
        bytes_of = {letter: byte for byte, letter in self._letters.items()}
        self.special: dict[str, int] = {token["content"]: token["id"] for token in content["added_tokens"]}
        self._bytes = {
            number: bytes(bytes_of[letter] for letter in token)
            for token, number in self._numbers.items()
            if token not in self.special and all(letter in bytes_of for letter in token)
        }
        merges = (tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"])
        self._ranks: dict[tuple[str, ...], int] = {pair: rank for rank, pair in enumerate(merges)}

    @classmethod
    def load(cls, path: Path) -> BytePairs:
        """Raises OSError, ValueError or KeyError for what is no byte-level tokenizer."""
        return cls(json.loads(path.read_text(encoding="utf-8")))

    def bytes_of(self, number: int) -> bytes:
        """What one token stands for; nothing for control tokens and for times. May be part of a character."""
        return self._bytes.get(number, b"")

    def decode(self, numbers: Iterable[int]) -> str:
        return b"".join(map(self.bytes_of, numbers)).decode("utf-8", "replace")

    def encode(self, text: str) -> list[int]:
        """Control tokens are not recognised in `text`: they are spelled like any other word."""
        numbers: list[int] = []
        for piece in _PIECES.findall(text):
            numbers += (self._numbers[part] for part in self._merge(piece))
        return numbers

    def _merge(self, piece: str) -> list[str]:
        parts = [self._letters[byte] for byte in piece.encode()]
        while len(parts) > 1:
            pairs = list(itertools.pairwise(parts))
            best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            merged, i = [], 0
            while i < len(parts):
                if i < len(pairs) and pairs[i] == best:
                    merged.append(parts[i] + parts[i + 1])
                    i += 2
                else:
                    merged.append(parts[i])
                    i += 1
            parts = merged
        return parts
