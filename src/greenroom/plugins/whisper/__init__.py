"""Recognition by Whisper, on CTranslate2: people, offline. A fifth of the speech's time on two cores with `whisper-base`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from greenroom import models
from greenroom.agents.speech.protocols import MissingProvider, PartialCallback
from greenroom.plugins.whisper.client import Configuration
from greenroom.plugins.whisper.decode import default_threads, require_library
from greenroom.plugins.whisper.folder import FILES, check_name, find_model
from greenroom.plugins.whisper.recognise import Recognition
from greenroom.plugins.whisper.stream import WhisperStream

__all__ = ["DEFAULT_MODEL", "Recognition", "Whisper", "WhisperStream", "find_model"]

DEFAULT_MODEL = "whisper-base"
MAX_HOT_WORDS = 50


class Whisper:
    """`STT` provider. One process of a worker holds the model and serves all its jobs.

    Args:
        model: the name of a model (`greenroom models list`), or a folder that holds one converted for CTranslate2.
            `GREENROOM_WHISPER_MODEL`, else `whisper-base`, when not given.
        language: a code such as "en"; None lets the model judge each utterance.
        hot_words: names and terms that are likely to be said. They cost time with every decoding: at most 50.
        threads: of the process; as many as there are processors, at most four, when not given.

    Raises:
        ValueError: no model that recognises speech has this name, too many hot words, or no such language code.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        language: str | None = "en",
        hot_words: Iterable[str] = (),
        threads: int | None = None,
        compute_type: str = "int8",
    ) -> None:
        self.model = os.fspath(model or os.environ.get("GREENROOM_WHISPER_MODEL") or DEFAULT_MODEL)
        check_name(self.model)
        self._language = language
        self._hot_words = tuple(word for word in (" ".join(word.split()) for word in hot_words) if word)
        if len(self._hot_words) > MAX_HOT_WORDS:
            raise ValueError(f"{len(self._hot_words)} hot words; at most {MAX_HOT_WORDS} help")
        if language is not None and not (language.isascii() and language.isalpha() and language.islower()):
            raise ValueError(f"{language!r} is no language code such as 'en'")
        self._threads = threads or default_threads()
        self._compute_type = compute_type

    def missing(self) -> str | None:
        """What is not there and how to get it, or None. Cheap."""
        try:
            self._configuration()
        except MissingProvider as error:
            return str(error)
        return None

    def load(self) -> None:
        """Starts the process and waits until it has its model. Raises MissingProvider or ProviderError."""
        self._configuration().start()

    def stream(self, on_partial: PartialCallback | None = None) -> WhisperStream:
        return WhisperStream(self._configuration(), self._language, self._hot_words, on_partial)

    def _configuration(self) -> Configuration:
        require_library()
        return Configuration(str(self._folder()), self._threads, self._compute_type)

    def _folder(self) -> Path:
        folder = find_model(self.model)
        if folder is not None:
            return folder
        if os.sep in self.model:
            raise MissingProvider(f"the speech model {self.model}", f"such a folder needs {', '.join(FILES)}")
        try:
            return models.require(self.model)
        except models.ModelError as error:
            raise MissingProvider("the speech model", str(error)) from None
