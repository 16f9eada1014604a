"""Models as they really travel: this machine's package clients are asked, and what they name is fetched and checked."""

from __future__ import annotations

import re
import shutil
import wave
from pathlib import Path

import pytest

from greenroom.models import clients
from greenroom.models.registry import read
from greenroom.models.store import Registry
from tests.speech_clips import NAME, REGISTRY, clips, jfk

PACKAGED = Path(clients.__file__).with_name("registry.toml")


def test_a_model_comes_out_of_a_python_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_MODELS", str(tmp_path))
    registry = Registry(PACKAGED)
    folder = registry.get("smart-turn")
    assert [path.name for path in folder.iterdir() if path.suffix] == ["smart-turn-v3.2-cpu.onnx"]
    assert registry.verify("smart-turn") == []


def test_npm_knows_the_declared_packages() -> None:
    packages = {
        package for model in read(PACKAGED).values() for s in model.sources if s.kind == "npm" for package in s.packages
    }
    assert packages
    for package in packages:
        assert re.fullmatch(rf"https?://\S+{package.version}\S*\.tgz", clients.address("npm", package))


@pytest.mark.skipif(not shutil.which("apt-get"), reason="recordings travel in Debian packages")
def test_people_speak_in_a_debian_package() -> None:
    """In the usual cache, as the evaluation uses them: a cold run fetches 18 MB once."""
    found = clips()
    assert len(found) == 200 and len({clip.name for clip in found}) == 200
    assert all(clip.path.stat().st_size > 16_000 and len(clip.text.split()) > 2 for clip in found)
    assert not any(re.search(r"[\d\[\]()]", clip.text) for clip in found)
    assert Registry(REGISTRY).verify(NAME) == []


def test_a_president_speaks_in_a_node_package() -> None:
    with wave.open(str(jfk().path)) as recording:
        assert recording.getframerate() == 16_000 and recording.getnframes() == 176_000
