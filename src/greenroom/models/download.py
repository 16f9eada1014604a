"""One file over HTTP: goes on where it stopped, stays within what was declared, and ends with the declared hash."""

from __future__ import annotations

import hashlib
import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import CannotFetch, WrongBytes

__all__ = ["Refused", "Unreachable", "check", "download"]

TIMEOUT = 10.0
"""Seconds without a byte after which a connection counts as dead."""
LIMIT = 3600.0
"""Seconds for one file in all, so that a server that drips cannot hold anybody for ever."""
FRUITLESS = 3
"""Attempts in a row without one new byte."""
ATTEMPTS = 30
"""Attempts in all."""
PAUSE = 0.5
"""Seconds before the second attempt; doubles with every fruitless one."""
CHUNK = 1 << 18
STRONG = re.compile(r'"[!-~]{0,200}"')
"""A tag that names these bytes; a weak one (`W/"..."`) says nothing about bytes, and others nothing at all."""
AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""Answers that the same question may change."""


class Unreachable(CannotFetch):
    """The server cannot be talked to at all: asking it for another file makes no sense."""


class Refused(CannotFetch):
    """The server is there and does not give it, or not to us."""


class _Dropped(Exception):
    """The transfer has broken off; the next attempt goes on from there."""


def download(
    address: str, target: Path, size: int, sha256: str, received: Callable[[int], None] = lambda total: None
) -> None:
    """Fetch `address` into `target`.

    What has come is kept in `target` + `.part` when it fails for any reason but wrong bytes, and the next call asks only
    for the rest. `received` hears how many bytes are there. Raises `CannotFetch`; errors of the disk are `OSError`.
    """
    part = Path(f"{target}.part")
    deadline = time.monotonic() + LIMIT
    for fresh in (False, True):
        resumed = _complete(address, part, size, received, deadline)
        problem = _problem(part, size, sha256)
        if not problem:
            _tag(part).unlink(missing_ok=True)
            part.replace(target)
            return
        _forget(part)
        if fresh or not resumed:  # what was there before may be to blame: that is worth one more try, from the start
            break
    raise WrongBytes(f"{_last(address)} {problem}")


def check(path: Path, size: int, sha256: str, name: str = "") -> None:
    """Raise `WrongBytes` (and delete the file) unless `path` has this size and hash."""
    if problem := _problem(path, size, sha256):
        path.unlink(missing_ok=True)
        raise WrongBytes(f"{name or path.name} {problem}")


def _problem(path: Path, size: int, sha256: str) -> str:
    with path.open("rb") as file:
        length = file.seek(0, 2)
        if length != size:
            return f"has {length} bytes, expected {size}"
        file.seek(0)
        got = hashlib.file_digest(file, "sha256").hexdigest()
    return "" if got == sha256 else f"has the SHA-256 {got}, expected {sha256}"


def _complete(address: str, part: Path, size: int, received: Callable[[int], None], deadline: float) -> bool:
    """Bring `part` to `size` bytes. True when some of them were there before, or came in another answer."""
    if _length(part) > size:
        _forget(part)
    resumed = _length(part) > 0
    received(_length(part))
    fruitless = 0
    for _ in range(ATTEMPTS):
        before = _length(part)
        if before == size:
            return resumed
        try:
            _transfer(address, part, size, received, deadline)
            return resumed
        except _Dropped as drop:
            resumed = True
            fruitless = 0 if _length(part) > before else fruitless + 1
            if fruitless >= FRUITLESS:
                error = Unreachable if _length(part) == 0 else CannotFetch
                raise error(f"{_host(address)} {drop}") from drop.__cause__
            if fruitless:
                time.sleep(PAUSE * 2 ** (fruitless - 1))
    raise CannotFetch(f"{_host(address)} broke off {ATTEMPTS} times")


def _transfer(address: str, part: Path, size: int, received: Callable[[int], None], deadline: float) -> None:
    """One request, and all that it brings."""
    offset = _length(part)
    headers = {"User-Agent": "greenroom", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if STRONG.fullmatch(tag := _read(_tag(part))):
            headers["If-Range"] = tag  # changed meanwhile: then the answer is the whole new file
    with _opened(address, headers, part) as response:
        if getattr(response, "status", None) != 206:
            offset = 0  # this server knows no ranges, or the file is another one now
            _note(part, response)
        elif not _continues(response.headers.get("Content-Range", ""), offset, size):
            _forget(part)
            raise _Dropped("answers with another range than asked for")
        announced = response.headers.get("Content-Length")
        if announced is not None and announced.isdecimal() and int(announced) != size - offset:
            _forget(part)
            raise WrongBytes(f"{_last(address)} has {offset + int(announced)} bytes, expected {size}")
        with part.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            while block := _block(response, deadline):
                offset += len(block)
                if offset > size:
                    break
                file.write(block)
                received(offset)
    if offset > size:
        _forget(part)
        raise WrongBytes(f"{_last(address)} has more than the expected {size} bytes")
    if offset < size:
        raise _Dropped("broke off")


def _opened(address: str, headers: dict[str, str], part: Path) -> Any:
    if urlsplit(address).scheme not in ("http", "https", "file"):  # `file`: a folder that the package client was given
        raise CannotFetch(f"{address} is not an address to download from")
    try:
        return urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            _forget(part)
            raise _Dropped("has less than it had") from error
        if error.code in AGAIN:
            raise _Dropped(f"answers {error.code}") from error
        raise Refused(f"{_host(address)} answers {error.code} to {_last(address)}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ConnectionResetError | http.client.HTTPException):
            raise _Dropped("breaks off") from error
        if isinstance(reason, TimeoutError) and _length(part):  # it was there before
            raise _Dropped(_plain(reason)) from error
        raise Unreachable(f"{_host(address)} {_plain(reason)}") from error


def _block(response: Any, deadline: float) -> bytes:
    if time.monotonic() > deadline:
        raise CannotFetch(f"the download takes longer than {LIMIT / 60:.0f} minutes, and goes on from there next time")
    try:
        return bytes(response.read1(CHUNK))
    except TimeoutError as error:
        raise _Dropped(f"sends nothing for {TIMEOUT:g} s") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Dropped("breaks off") from error


def _continues(content_range: str, offset: int, size: int) -> bool:
    match = re.fullmatch(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)", content_range.strip())
    return match is not None and int(match[1]) == offset and match[2] in ("*", str(size))


def _plain(reason: object) -> str:
    if isinstance(reason, socket.gaierror):
        return "is not known here"
    if isinstance(reason, TimeoutError):
        return f"does not answer within {TIMEOUT:g} s"
    if isinstance(reason, ssl.SSLError):
        return f"cannot be trusted ({reason.reason})"
    if isinstance(reason, OSError) and reason.strerror:
        return f"cannot be reached ({reason.strerror.lower()})"
    return f"cannot be reached ({reason})"


def _note(part: Path, response: Any) -> None:
    tag = response.headers.get("ETag", "")
    if STRONG.fullmatch(tag):
        _tag(part).write_text(tag, encoding="utf-8")
    else:
        _tag(part).unlink(missing_ok=True)


def _tag(part: Path) -> Path:
    return Path(f"{part}.etag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag(part).unlink(missing_ok=True)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _host(address: str) -> str:
    return urlsplit(address).hostname or address


def _last(address: str) -> str:
    return urlsplit(address).path.rpartition("/")[2] or address
