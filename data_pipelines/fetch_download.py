"""One file downloaded: taken up where it broke off, checked by its content and checksum, and only then given its name."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import urllib.error
from pathlib import Path
from typing import IO, Any, NamedTuple

from tqdm import tqdm

from data_pipelines.fetch_http import BREAKS, open_url, wait

BLOCK_BYTES = 2**20
ASKS = 1000  # connections for one file
SPARE_BYTES = 2**26  # of disk, to stay free
MAGIC = {  # how files with these names begin
    ".gz": (b"\x1f\x8b",),
    ".tgz": (b"\x1f\x8b",),
    ".bz2": (b"BZh",),
    ".xz": (b"\xfd7zXZ\0",),
    ".zst": (b"\x28\xb5\x2f\xfd", *(bytes([i]) + b"\x2a\x4d\x18" for i in range(0x50, 0x60))),
    ".7z": (b"7z\xbc\xaf\x27\x1c",),
    ".zip": (b"PK\x03\x04",),
    ".parquet": (b"PAR1",),
    ".bundle": (b"# v2 git bundle", b"# v3 git bundle"),
}
PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|\?xml|error)", re.IGNORECASE)


class File(NamedTuple):
    """What a publisher lists: an address, a name below the folder to fill, and size and checksum where it says them."""

    url: str
    name: str
    size: int | None = None
    algorithm: str = ""
    checksum: str = ""
    optional: bool = False  # may not be there at all


class Broken(ValueError):
    """The file, or part of it, is not what it should be; what came of it is deleted."""


def download(file: File, folder: Path, allow_private: bool, progress: bool) -> Path | None:
    """The file's path, once it is there whole; None for an optional one that the server does not have.

    A .part file beside it holds what came so far, its .state the server's version of it. Raises OSError where the server
    or the disk will not, Broken (a ValueError) where content, size or checksum are wrong, also when asked twice."""
    target = folder / file.name
    part = Path(f"{target}.part")
    if target.exists() and _is_whole(target, file):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab") as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"{part} is being written by another process: wait for it, or end it") from None
        if not part.exists() or not os.path.samestat(part.stat(), os.fstat(out.fileno())):
            raise OSError(f"{target} has just been finished by another process")
        with tqdm(desc=target.name, total=file.size, unit="B", unit_scale=True, disable=not progress) as bar:
            for again in (True, False):
                try:
                    found = _fill(file, out, Path(f"{part}.state"), allow_private, bar)
                    if found:
                        _check(file, part)
                    break
                except Broken:
                    _restart(out, Path(f"{part}.state"))
                    if not again:
                        part.unlink()
                        raise
        if found:
            out.flush()
            os.fsync(out.fileno())
            part.replace(target)
        else:
            part.unlink()
        Path(f"{part}.state").unlink(missing_ok=True)
    return target if found else None


def _fill(file: File, out: IO[bytes], state: Path, allow_private: bool, bar: Any) -> bool:
    """Ask until everything is there; False where an optional file is not."""
    tries = 0
    for _ in range(ASKS):
        before = out.tell()
        try:
            return _ask(file, out, state, allow_private, bar)
        except BREAKS as error:
            if isinstance(error, urllib.error.HTTPError):
                if error.code in (404, 410) and file.optional:
                    error.close()
                    return False
                if error.code == 416:  # we have more than there is, or all of it and could not know
                    raise Broken(f"{file.url}: the server has no more than {before:,} bytes") from None
            tries = 0 if out.tell() > before else tries
            wait(file.url, error, tries)
            tries += 1
    raise OSError(f"{file.url}: given up after {ASKS:,} connections")


def _ask(file: File, out: IO[bytes], state: Path, allow_private: bool, bar: Any) -> bool:
    start = out.seek(0, os.SEEK_END)
    version = _read_state(state)
    if version is None or (version["length"] is not None and start > version["length"]):
        start = _restart(out, state)
    elif start == version["length"]:
        return True
    headers = {"Range": f"bytes={start}-", "If-Range": version["validator"]} if start and version else {}
    with open_url(file.url, allow_private, headers) as response:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise Broken(f"{file.url} came compressed by the server, unasked")
        now = _version(response)
        if response.status == 206:  # whose headers may leave out what they were asked with
            same = version and all(now[key] in (None, version[key]) for key in now)
            if not same or _range_start(response) != start:
                _restart(out, state)
                raise ConnectionError("another version of the file, or another part than asked for")
        else:
            version, start = now, _restart(out, state)  # the whole: the file changed, or the server knows no ranges
            if now["validator"]:
                state.write_text(json.dumps(now), encoding="utf-8")
        length = version["length"] if version else None
        _check_room(out, length, start)
        bar.reset(total=length or file.size)
        bar.update(start)
        received = start
        while block := response.read1(BLOCK_BYTES):
            if received == 0:
                _check_content(file, block)
            received += len(block)
            if length is not None and received > length:
                raise Broken(f"{file.url}: more than the {length:,} bytes announced")
            out.write(block)
            bar.update(len(block))
        out.flush()
    if length is not None and received < length:
        raise ConnectionError(f"cut off after {received:,} of {length:,} bytes")
    return True


def _version(response: Any) -> dict[str, Any]:
    """What tells this version of the file from others: a strong ETag or else its date, and its whole length."""
    etag = response.headers.get("ETag", "")
    length = response.headers.get("Content-Length", "")
    if response.status == 206:
        length = response.headers.get("Content-Range", "").rpartition("/")[2]
    return {
        "validator": etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified"),
        "length": int(length) if re.fullmatch("[0-9]{1,18}", length) else None,
    }


def _range_start(response: Any) -> int | None:
    found = re.match(r"bytes ([0-9]{1,18})-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _read_state(state: Path) -> dict[str, Any] | None:
    try:
        version = json.loads(state.read_text(encoding="utf-8"))
        return version if version["validator"] and (version["length"] is None or version["length"] >= 0) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _restart(out: IO[bytes], state: Path) -> int:
    state.unlink(missing_ok=True)
    out.truncate(0)
    return out.seek(0)


def _check_room(out: IO[bytes], length: int | None, start: int) -> None:
    free = shutil.disk_usage(Path(out.name).parent).free
    if length is not None and length - start + SPARE_BYTES > free:
        raise OSError(f"{out.name} needs {length - start:,} bytes more, the disk has {free:,}")


def _check_content(file: File, begin: bytes) -> None:
    magic = MAGIC.get(Path(file.name).suffix)
    if magic and not begin.startswith(magic[: len(begin)]) or (not magic and PAGE.match(begin)):
        shown = begin[:40].decode("ascii", "replace")
        raise Broken(f"{file.url} is no {Path(file.name).suffix or 'such'} file, it begins with {shown!r}")


def _is_whole(target: Path, file: File) -> bool:
    try:
        _check(file, target)
    except Broken:
        return False
    return True


def _check(file: File, path: Path) -> None:
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise Broken(f"{file.url} has {size:,} bytes, the publisher says {file.size:,}")
    if file.checksum:
        with path.open("rb") as content:
            found = hashlib.file_digest(content, file.algorithm).hexdigest()
        if found != file.checksum:
            raise Broken(f"{file.url} has the {file.algorithm} {found}, the publisher says {file.checksum}")
