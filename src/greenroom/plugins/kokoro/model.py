"""Kokoro in memory. One network speaks with many voices; a voice is a table with a style for each length of text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from greenroom.agents.speech.protocols import ProviderError
from greenroom.plugins.kokoro.symbols import LONGEST, ids
from greenroom.plugins.voices.clauses import Clause, clauses, pieces
from greenroom.plugins.voices.phonemes import phonemes
from greenroom.plugins.voices.server import Piece
from greenroom.plugins.voices.session import open_session
from greenroom.plugins.voices.shape import Samples

__all__ = ["NETWORK", "SAMPLE_RATE", "KokoroModel", "load"]

NETWORK = "kokoro-int8.onnx"
SAMPLE_RATE = 24_000
STYLE = 256
FIRST_PIECE, LONGEST_PIECE = 40, 120
"""Characters. A piece is heard when all of it is done, so the first is to be short."""
GAIN = 1.0


class KokoroModel:
    """The network and those of its voices that have been asked for."""

    def __init__(self, folder: Path, *, threads: int = 2) -> None:
        self._folder = folder
        self._session = open_session(str(folder / NETWORK), threads)
        self._styles: dict[str, Samples] = {}

    @property
    def sample_rate(self) -> int:
        return SAMPLE_RATE

    @property
    def gain(self) -> float:
        return GAIN

    def plan(self, text: str, options: dict[str, Any]) -> list[Piece]:
        british = str(options["voice"]).startswith("b")
        parts = pieces(clauses(text), first=FIRST_PIECE, longest=LONGEST_PIECE)
        every = [clause for piece in parts for clause in piece]
        spoken = iter(phonemes([each.text for each in every], "en-gb" if british else "en-us"))
        out: list[Piece] = []
        for piece in parts:
            out += _within([(next(spoken), each) for each in piece], british, last=piece is parts[-1])
        return out

    def render(self, piece: Piece, options: dict[str, Any]) -> Iterator[Samples]:
        style = self._style(str(options["voice"]))
        given = {
            "tokens": np.array([piece.ids], np.int64),
            # The pads at both ends do not count.
            "style": style[min(len(piece.ids) - 2, len(style)) - 1][None],
            "speed": np.array([float(options.get("speed", 1.0))], np.float32),
        }
        yield self._session.run(None, given)[0].reshape(-1)

    def _style(self, voice: str) -> Samples:
        if voice not in self._styles:
            path = self._folder / "voices" / f"{voice}.bin"
            try:
                table = np.fromfile(path, np.float32)
            except OSError as error:
                raise ProviderError(f"Kokoro has no voice {voice} on this machine ({error.strerror})") from error
            if not len(table) or len(table) % STYLE:
                raise ProviderError(f"{path} is not a voice")
            self._styles[voice] = table.reshape(-1, STYLE)
        return self._styles[voice]


def _within(parts: list[tuple[str, Clause]], british: bool, *, last: bool) -> list[Piece]:
    """A piece, or several where it has more symbols than the network takes."""
    mark = parts[-1][1].mark or ("." if last else "")
    text = " ".join(
        spoken + (clause.mark if index < len(parts) - 1 else mark) for index, (spoken, clause) in enumerate(parts)
    )
    numbers = ids(text, british=british)
    if len(numbers) < LONGEST + 2:
        return [Piece(numbers, mark)] if len(numbers) > 2 else []
    words = text.split(" ")
    half = len(words) // 2
    if not half:
        return [Piece(numbers, mark)]
    return [
        piece
        for part in (words[:half], words[half:])
        for piece in _within([(" ".join(part), Clause("", ""))], british, last=False)
    ]


def load(configuration: dict[str, Any]) -> KokoroModel:
    """For the process that holds it."""
    return KokoroModel(Path(configuration["folder"]), threads=int(configuration.get("threads", 2)))
