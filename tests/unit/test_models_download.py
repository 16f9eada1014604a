"""Downloads that break off, lie, or are something else than declared."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenroom.models import CannotFetch, WrongBytes, download as module
from greenroom.models.download import Unreachable, download

from .model_files import Asked, Files, serving, sha256

BODY = bytes(range(256)) * 4000


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "PAUSE", 0.01)
    with serving() as files:
        files.bytes["model.bin"] = BODY
        yield files


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.bin"


def fetch(files: Files, target: Path, body: bytes = BODY) -> list[int]:
    received: list[int] = []
    download(f"{files.address}model.bin", target, len(body), sha256(body), received.append)
    return received


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_what_comes_is_kept_and_counted(files: Files, target: Path) -> None:
    received = fetch(files, target)
    assert target.read_bytes() == BODY
    assert received == sorted(received) and received[0] == 0 and received[-1] == len(BODY)
    assert left(target) == ["model.bin"]


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(files: Files, target: Path) -> None:
    files.drop_after = [100_000, 50_000]
    fetch(files, target)
    assert target.read_bytes() == BODY
    assert [each[1:] for each in files.asked] == [
        (None, None),
        ("bytes=100000-", '"one"'),
        ("bytes=150000-", '"one"'),
    ]


def test_the_next_call_asks_only_for_the_rest(files: Files, target: Path) -> None:
    files.drop_after = [100_000, 0, 0, 0]
    with pytest.raises(CannotFetch, match="broke off"):
        fetch(files, target)
    assert (target.parent / "model.bin.part").stat().st_size == 100_000
    files.asked.clear()
    assert fetch(files, target)[0] == 100_000
    assert files.asked == [Asked("model.bin", "bytes=100000-", '"one"')]
    assert target.read_bytes() == BODY


def test_a_server_without_ranges_sends_all_again(files: Files, target: Path) -> None:
    files.ranges = False
    files.drop_after = [100_000]
    fetch(files, target)
    assert target.read_bytes() == BODY


def test_a_file_that_changed_meanwhile_comes_anew(files: Files, target: Path) -> None:
    old = bytes(len(BODY))
    files.bytes["model.bin"] = old
    files.drop_after = [100_000, 0, 0, 0]
    with pytest.raises(CannotFetch):
        fetch(files, target)
    files.bytes["model.bin"], files.tag = BODY, '"two"'
    fetch(files, target)
    assert target.read_bytes() == BODY
    assert len(files.asked) == 5  # the last one got all of the new file, and no second request was needed


@pytest.mark.parametrize("tag", ['"one"', None])
def test_a_beginning_that_does_not_fit_is_forgotten(files: Files, target: Path, tag: str | None) -> None:
    files.tag = tag
    (target.parent / "model.bin.part").write_bytes(bytes(1000))  # of another file, and nothing says so
    fetch(files, target)
    assert target.read_bytes() == BODY
    assert [each.range for each in files.asked] == ["bytes=1000-", None]


def test_another_range_than_asked_for_is_not_taken(files: Files, target: Path) -> None:
    files.drop_after, files.shift = [100_000], 7
    fetch(files, target)
    assert target.read_bytes() == BODY
    assert [each.range for each in files.asked] == [None, "bytes=100000-", None]


@pytest.mark.parametrize("tag", ['W/"one"', "one", '"a\r\n b"', '"ä"', '"' + "x" * 5000 + '"'])
def test_a_tag_that_says_nothing_is_not_sent_back(files: Files, target: Path, tag: str) -> None:
    files.tag = tag
    files.drop_after = [100_000]
    fetch(files, target)
    assert target.read_bytes() == BODY
    assert [each[1:] for each in files.asked] == [(None, None), ("bytes=100000-", None)]


def test_a_damaged_note_of_a_tag_does_no_harm(files: Files, target: Path) -> None:
    (target.parent / "model.bin.part").write_bytes(BODY[:1000])
    (target.parent / "model.bin.part.etag").write_bytes(b"\xff\r\nX: y")
    fetch(files, target)
    assert files.asked == [Asked("model.bin", "bytes=1000-", None)]
    assert left(target) == ["model.bin"]


def test_what_came_whole_is_not_asked_for(files: Files, target: Path) -> None:
    (target.parent / "model.bin.part").write_bytes(BODY)
    fetch(files, target)
    assert target.read_bytes() == BODY and not files.asked


def test_a_wrong_hash_is_refused_and_deleted(files: Files, target: Path) -> None:
    files.bytes["model.bin"] = wrong = BODY[:-1] + b"!"
    with pytest.raises(WrongBytes) as error:
        fetch(files, target)
    assert all(word in str(error.value) for word in ("model.bin", sha256(BODY), sha256(wrong)))
    assert left(target) == [] and len(files.asked) == 1


@pytest.mark.parametrize("body", [BODY[:-1], BODY + b"!"], ids=["short", "long"])
def test_another_length_is_refused_before_it_is_fetched(files: Files, target: Path, body: bytes) -> None:
    files.bytes["model.bin"] = body
    with pytest.raises(WrongBytes, match=f"has {len(body)} bytes, expected {len(BODY)}"):
        fetch(files, target)
    assert left(target) == []


def test_a_server_that_never_ends_is_cut_off(files: Files, target: Path) -> None:
    files.endless = True
    with pytest.raises(WrongBytes, match="more than the expected"):
        fetch(files, target)
    assert left(target) == []


def test_a_passing_error_is_asked_again_and_a_lasting_one_not(files: Files, target: Path) -> None:
    files.status = [503, 429]
    fetch(files, target)
    assert len(files.asked) == 3
    files.status = [403]
    with pytest.raises(CannotFetch, match=r"^127\.0\.0\.1 answers 403 to model.bin"):
        fetch(files, target)
    assert len(files.asked) == 4
    files.status = [500] * 9
    with pytest.raises(CannotFetch, match="answers 500"):
        fetch(files, target)
    assert len(files.asked) == 4 + module.FRUITLESS


def test_a_silent_server_is_given_up(files: Files, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    files.hold_after = 1000
    files.gate.clear()
    with pytest.raises(CannotFetch, match=r"sends nothing for 0\.2 s"):
        fetch(files, target)
    assert (target.parent / "model.bin.part").stat().st_size > 0


def test_nobody_at_the_address_is_one_sentence(files: Files, target: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(Unreachable, match=r"^127.0.0.1 cannot be reached \(connection refused\)$"):
        download(f"http://127.0.0.1:{port}/model.bin", target, 1, sha256(b"a"))
    with pytest.raises(Unreachable, match=r"^nowhere\.invalid is not known here$"):
        download("http://nowhere.invalid/model.bin", target, 1, sha256(b"a"))


def test_a_certificate_that_is_not_trusted_is_said(target: Path, files: Files) -> None:
    with pytest.raises(Unreachable, match="cannot be trusted"):  # this server does not even speak TLS
        download(files.address.replace("http:", "https:") + "model.bin", target, 1, sha256(b"a"))


@pytest.mark.parametrize("address", ["ftp://localhost/a", "data:,a", "/etc/passwd", "gopher://a/"])
def test_other_kinds_of_address_are_refused(target: Path, address: str) -> None:
    with pytest.raises(CannotFetch, match="is not an address to download from"):
        download(address, target, 1, sha256(b"a"))


def test_a_folder_of_packages_is_an_address(tmp_path: Path, target: Path) -> None:
    (tmp_path / "there").write_bytes(BODY)
    download((tmp_path / "there").as_uri(), target, len(BODY), sha256(BODY))
    assert target.read_bytes() == BODY
