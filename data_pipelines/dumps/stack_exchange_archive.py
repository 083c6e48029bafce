"""The Posts.xml inside a Stack Exchange .7z, as a stream; nothing in the archive decides what is written, or where."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from data_pipelines.account import Account
from data_pipelines.pool import Failure, run_guarded

MEMBER = "Posts.xml"
UNPACKED_BYTES = 400 * 10**9  # stackoverflow.com's comes to some 100 GB
RATIO = 100  # real dumps pack to a quarter or a fifth
SLOWEST = 2 * 10**6  # bytes/s: an archive that unpacks slower than this is given up
TOOLS = {  # what can unpack into a pipe; 7-Zip's own first
    "7zz": ["x", "-so", "--", "{archive}", MEMBER],
    "7z": ["x", "-so", "--", "{archive}", MEMBER],
    "7za": ["x", "-so", "--", "{archive}", MEMBER],
    "bsdtar": ["-xOf", "{archive}", MEMBER],
}
BROKEN = Failure("broken 7z archive")


@contextmanager
def open_posts(archive: Path, account: Account) -> Iterator[tuple[IO[bytes], int] | None]:
    """(its Posts.xml, bytes of that), or None where it cannot be had; why, or that it broke off, goes to the account.

    Through a pipe from 7-Zip or bsdtar where there is one of them; without, py7zr unpacks it into a temporary file.
    Raises OSError where that has no room."""
    size = _guarded(posts_size, str(archive), 60)
    if isinstance(size, Failure):
        account.fail(size.reason)
        yield None
        return
    tool = next((tool for tool in TOOLS if shutil.which(tool)), None)
    if tool is None:
        with TemporaryDirectory(prefix="llama-data-") as folder:
            free = shutil.disk_usage(folder).free
            if free < size:
                raise OSError(
                    f"{archive} unpacks to {size:,} bytes, {folder} has room for {free:,}: set TMPDIR, or get 7zz"
                )
            target = Path(folder, "unpacked")
            result = _guarded(unpack, (str(archive), str(target), size), 60 + size / SLOWEST)
            if target.exists():
                with target.open("rb") as file:
                    yield file, size
            else:
                yield None
            if isinstance(result, Failure):
                account.fail(result.reason)
        return
    words = [tool, *(word.format(archive=archive.resolve()) for word in TOOLS[tool])]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout, size
            if not process.stdout.read(1) and process.wait() != 0:
                account.fail(BROKEN.reason)
        finally:
            process.kill()


def posts_size(archive: str) -> int | Failure:
    """Bytes of the archive's one Posts.xml, as its header says; a Failure where there is none to be had."""
    import py7zr

    try:
        with py7zr.SevenZipFile(archive) as file:
            found = [member for member in file.list() if member.filename == MEMBER and member.is_file]
            if file.needs_password():
                return Failure("encrypted 7z archive")
    except py7zr.PasswordRequired:
        return Failure("encrypted 7z archive")
    except Exception:  # py7zr lets whatever goes wrong inside it through
        return BROKEN
    if len(found) != 1:
        return Failure("7z archive without a Posts.xml" if not found else "7z archive with more than one Posts.xml")
    if found[0].uncompressed > min(UNPACKED_BYTES, RATIO * max(Path(archive).stat().st_size, 10**5)):
        return Failure("unpacks to too much")
    return found[0].uncompressed


def unpack(job: tuple[str, str, int]) -> Failure | None:
    """Unpack the Posts.xml, given (archive, target, bytes it may have); a Failure where it broke off."""
    import py7zr
    from py7zr.io import Py7zIO, WriterFactory

    archive, target, most = job

    class Target(Py7zIO):
        def write(self, s: bytes | bytearray) -> int:
            if file.tell() + len(s) > most:
                raise ValueError("more than its header says")
            return file.write(s)

        def read(self, size: int | None = None) -> bytes:
            return b""

        def seek(self, offset: int, whence: int = 0) -> int:
            return 0

        def flush(self) -> None:
            pass

        def size(self) -> int:
            return file.tell()

    class Factory(WriterFactory):
        def create(self, filename: str) -> Py7zIO:
            return Target()

    try:
        with open(target, "wb") as file, py7zr.SevenZipFile(archive) as source:
            source.extract(Path(target).parent, targets=[MEMBER], factory=Factory())
    except Exception:  # py7zr lets whatever goes wrong inside it through
        return BROKEN
    return None


def _guarded(function: Any, item: Any, seconds: float) -> Any:
    # a dictionary of 1.5 GB is the largest that 7-Zip makes
    return next(result for _, result in run_guarded(function, [item], seconds=seconds, megabytes=3072))
