"""People, not synthesisers: recordings that are fetched once, and what is written of them."""

from __future__ import annotations

import re

import pytest

from greenroom import models
from greenroom.agents.caller.script import agreement
from greenroom.plugins.whisper.recognise import recognise

from ..speech_clips import Clip, abroad, clips, jfk
from .whisper_model import load, read

NAMES = ("conf-getpin", "conf-placeintoconf", "cannot-complete-as-dialed")


def fetched() -> dict[str, Clip]:
    try:
        return {clip.name: clip for clip in (*clips(), jfk())}
    except models.ModelError as error:
        pytest.skip(f"the recordings are not here: {error}")


@pytest.mark.quiet
def test_three_people_are_understood():
    recordings = fetched()
    model = load()
    for name in (*NAMES, "jfk"):
        clip = recordings[name]
        text = recognise(model, [read(clip.path)])[0].text
        assert agreement(clip.text, text) >= 0.9, (name, text)


@pytest.mark.quiet
def test_several_at_once_are_what_they_are_alone():
    recordings = fetched()
    model = load()
    samples = [read(recordings[name].path) for name in NAMES]
    assert max(map(len, samples)) < 5 * 16_000, "all have the same window"
    alone = [recognise(model, [one])[0].text for one in samples]
    together = [one.text for one in recognise(model, samples, words=True)]
    assert [re.sub(r"\W+", " ", text).lower() for text in together] == [
        re.sub(r"\W+", " ", text).lower() for text in alone
    ]


@pytest.mark.quiet
@pytest.mark.parametrize("language", ["fr", "es"])
def test_other_languages_are_recognised_and_understood(language: str):
    try:
        recordings = abroad(language)
    except models.ModelError as error:
        pytest.skip(f"the recordings are not here: {error}")
    model = load("whisper-base")
    for clip in recordings:
        heard = recognise(model, [read(clip.path)], language=None)[0]
        assert heard.language == language, clip.name
        assert agreement(clip.text, heard.text) >= 0.7, (clip.name, heard.text)
    assert recognise(model, [read(recordings[0].path)], language=language)[0].language == language
