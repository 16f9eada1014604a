"""Which recogniser a program gets that names none."""

from __future__ import annotations

import logging

import pytest

from greenroom.plugins import defaults
from greenroom.plugins.pocketsphinx import PocketSphinx
from greenroom.plugins.whisper import Whisper
from greenroom.plugins.whisper.folder import FILES


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch, tmp_path):
    monkeypatch.delenv("GREENROOM_STT", raising=False)
    monkeypatch.delenv("GREENROOM_WHISPER_MODEL", raising=False)
    monkeypatch.setenv("GREENROOM_MODELS", str(tmp_path))
    monkeypatch.setattr("greenroom.plugins.whisper.require_library", lambda: None)
    defaults.say_once.cache_clear()


def test_whisper_when_its_model_is_there(monkeypatch, tmp_path):
    for name in FILES:
        (tmp_path / name).touch()
    monkeypatch.setenv("GREENROOM_WHISPER_MODEL", str(tmp_path))
    assert isinstance(defaults.default_stt(), Whisper)


def test_pocketsphinx_without_it_which_is_said_once(caplog):
    with caplog.at_level(logging.INFO, "greenroom.defaults"):
        assert isinstance(defaults.default_stt(), PocketSphinx)
        defaults.default_stt()
    (record,) = caplog.records
    assert "pocketsphinx" in record.message and "greenroom models get whisper-base" in record.message


def test_who_wants_no_models_is_not_warned(monkeypatch, caplog):
    monkeypatch.setenv("GREENROOM_MODELS", "none")
    with caplog.at_level(logging.INFO, "greenroom.defaults"):
        assert isinstance(defaults.default_stt(), PocketSphinx)
    assert [record.levelname for record in caplog.records] == ["INFO"]


@pytest.mark.parametrize(("chosen", "model"), [("whisper", "whisper-base"), ("whisper-tiny", "whisper-tiny")])
def test_what_is_chosen_is_used_there_or_not(monkeypatch, chosen: str, model: str):
    monkeypatch.setenv("GREENROOM_STT", chosen)
    stt = defaults.default_stt()
    assert isinstance(stt, Whisper) and stt.model == model
    monkeypatch.setenv("GREENROOM_STT", "pocketsphinx")
    assert isinstance(defaults.default_stt(), PocketSphinx)
    monkeypatch.setenv("GREENROOM_STT", "faster-whisper")
    with pytest.raises(ValueError, match="GREENROOM_STT is 'faster-whisper'"):
        defaults.default_stt()
