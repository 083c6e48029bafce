"""git, asked for objects and nothing else: no hook, no fetch, no program that a repository names is run."""

import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

SECONDS = 60  # without a word from git: it hangs
CONFIG = {  # over whatever the repository says
    "safe.directory": "*",  # a dump may belong to another user; nothing of it is run
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.bigFileThreshold": "16m",
    "core.packedGitLimit": "256m",
    "pack.threads": "1",
    "protocol.allow": "never",
    "transfer.unpackLimit": "1",  # a bundle stays one pack, about as large as it was
}
ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",  # git 2.45 and later; the next line does it for those before
    "GIT_ALLOW_PROTOCOL": "none",  # stronger than protocol.*.allow in the repository's own configuration
    "GIT_ALLOC_LIMIT": "1g",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "LC_ALL": "C",
}


def program() -> str:
    """Where git is; FileNotFoundError where it is not."""
    git = shutil.which("git")
    if git is None:
        raise FileNotFoundError("git is not installed: repositories and bundles are read through it")
    return git


def _command(folder: Path, words: Sequence[str]) -> list[str]:
    settings = [word for name, value in CONFIG.items() for word in ("-c", f"{name}={value}")]
    return [program(), f"--git-dir={folder.resolve()}", "--no-pager", "--no-replace-objects", *settings, *words]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | ENVIRONMENT


def ask(folder: Path, words: Sequence[str], seconds: float = SECONDS, stdin: IO[bytes] | None = None) -> bytes:
    """What a short command says, "" where there is nothing to say; ValueError where git fails at its work."""
    command = _command(folder, words)
    source = subprocess.DEVNULL if stdin is None else stdin
    try:
        done = subprocess.run(
            command, stdin=source, capture_output=True, env=_environment(), timeout=seconds, cwd=folder
        )
    except subprocess.TimeoutExpired:
        raise ValueError("git took too long") from None
    if done.returncode not in (0, 1) or (done.returncode and words[0] != "config"):
        raise ValueError("corrupt bundle" if words[0] == "index-pack" else "corrupt repository")
    return done.stdout


@contextmanager
def running(folder: Path, words: Sequence[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A command that is talked with; it ends with the context."""
    process = subprocess.Popen(
        _command(folder, words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        cwd=folder,
        bufsize=0,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()


class Reader:
    """What a process says, with a limit on its silence."""

    def __init__(self, process: "subprocess.Popen[bytes]"):
        assert process.stdout
        self.descriptor = process.stdout.fileno()
        self.buffer = bytearray()

    def _more(self, deadline: float) -> bool:
        ready, _, _ = select.select([self.descriptor], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            raise ValueError("git took too long")
        part = os.read(self.descriptor, 1 << 16)
        self.buffer += part
        return bool(part)

    def until(self, mark: bytes) -> bytes:
        """Up to the mark, without it; b"" where the process has ended."""
        deadline = time.monotonic() + SECONDS
        while mark not in self.buffer:
            if len(self.buffer) > 1_000_000:
                raise ValueError("corrupt repository")
            if not self._more(deadline):
                return b""
        place = self.buffer.index(mark)
        line = bytes(self.buffer[:place])
        del self.buffer[: place + len(mark)]
        return line

    def exactly(self, size: int) -> bytes:
        deadline = time.monotonic() + SECONDS
        parts, missing = [], size
        while missing:
            if not self.buffer and not self._more(deadline):
                raise ValueError("corrupt object")
            parts.append(bytes(self.buffer[:missing]))
            del self.buffer[:missing]
            missing -= len(parts[-1])
        return b"".join(parts)


class Objects:
    """`git cat-file --batch`, started again where a corrupt object has ended it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> "Objects":
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.context.__exit__(None, None, None)

    def _start(self) -> None:
        self.context = running(self.folder, ["cat-file", "--batch"])
        self.process = self.context.__enter__()
        self.reader = Reader(self.process)

    def read(self, name: bytes, most: int) -> tuple[bytes, bytes]:
        """(object id, content) of a name git knows; ValueError where it is missing, corrupt or larger than `most`."""
        try:
            assert self.process.stdin
            self.process.stdin.write(name + b"\n")
            answer = self.reader.until(b"\n").split()
            if len(answer) != 3 or not answer[2].isdigit():
                raise ValueError("missing object")
            if int(answer[2]) > most:
                raise ValueError("object too large")
            content = self.reader.exactly(int(answer[2]))
            self.reader.exactly(1)
        except (ValueError, OSError) as error:
            self.__exit__()
            self._start()
            raise ValueError(str(error) if isinstance(error, ValueError) else "corrupt object") from None
        return answer[0], content
