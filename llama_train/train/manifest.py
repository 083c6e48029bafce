"""What makes a checkpoint one: manifest.json, written last, with the size and sha256 of every other file.

A folder without it, or with another byte in any file than it says, is not used. Files are flushed to the disk before
they are renamed into sight, since a machine may lose its power too. Torch-free."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

NAME = "manifest.json"
FORMAT = 1
LOADED = (".safetensors", ".json", ".bin", ".pt", ".pth")  # what transformers or we might open
CHUNK = 16 * 2**20  # bytes hashed and written at a time: both let other threads run meanwhile


def write_file(path: Path, chunks: Iterable[Any]) -> dict[str, Any]:
    """Write bytes-like `chunks`, on the disk when this returns, and give {"bytes", "sha256"} of what was written.

    The file is read back from the disk. Raises OSError where that is not what was written, or it cannot be."""
    try:
        entry = _write(path, chunks)
        found = describe_file(path)
    except OSError as error:  # of a full disk the system does not say where
        raise OSError(error.errno, error.strerror, str(path)) from None
    if found != entry:
        raise OSError(f"{path} reads back differently than it was written: the disk or the memory is failing")
    return entry


def _write(path: Path, chunks: Iterable[Any]) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for whole in chunks:
            view = memoryview(whole).cast("B")
            for start in range(0, len(view), CHUNK):
                file.write(view[start : start + CHUNK])
                digest.update(view[start : start + CHUNK])
            size += len(view)
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):  # so that it is read from the disk, not from memory
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return {"bytes": size, "sha256": digest.hexdigest()}


def describe_file(path: Path) -> dict[str, Any]:
    """{"bytes", "sha256"} of a file. Raises OSError where it cannot be read."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


def replace_file(path: Path, text: str) -> None:
    """Give a small file new content at once: whoever looks sees the old or the new one, whole."""
    aside = path.with_name(f".{path.name}.new")
    write_file(aside, [text.encode()])
    aside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries, its renames among them, to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_manifest(folder: Path, files: dict[str, dict[str, Any]], about: dict[str, Any]) -> None:
    """Write folder/manifest.json: `files` by name as `write_file` described them, and what else is to be known of it."""
    content = {"format": FORMAT, **about, "files": dict(sorted(files.items()))}
    content["sha256"] = _own_sha256(content)
    write_file(folder / NAME, [(json.dumps(content, indent=2) + "\n").encode()])


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, itself checked. Raises ValueError where it is missing, broken or of another format."""
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
        stated = content.pop("sha256")
    except FileNotFoundError:
        raise ValueError(f"{NAME} is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError):
        raise ValueError(f"{NAME} is broken") from None
    if _own_sha256(content) != stated:
        raise ValueError(f"{NAME} is broken (its own sha256 differs)")
    if content["format"] != FORMAT:
        raise ValueError(f"{NAME} has format {content['format']}, this version reads {FORMAT}")
    return content


def verify(folder: Path, share: tuple[int, int] = (0, 1)) -> list[str]:
    """What is wrong with a checkpoint, one line each; none: every byte is as it was written.

    share (i, n): read only every n-th file from the i-th on, the rest being read by others. A folder called
    checkpoint-N must hold step N, and nothing that could be loaded besides what the manifest names."""
    try:
        content = read_manifest(folder)
    except ValueError as error:
        return [str(error)]
    problems = []
    step = folder.name.removeprefix("checkpoint-")
    if step != folder.name and step.isdigit() and int(step) != content.get("step"):
        problems.append(f"it holds step {content.get('step')}")
    names = {path.name for path in folder.iterdir() if path.suffix in LOADED} - {NAME}
    problems += [f"{name} does not belong to it" for name in sorted(names - content["files"].keys())]
    for name, entry in list(content["files"].items())[share[0] :: share[1]]:
        if name != Path(name).name:
            problems.append(f"{name} is not the name of a file")
            continue
        try:
            found = describe_file(folder / name)
        except OSError as error:
            problems.append(f"{name}: {error.strerror or error}")
            continue
        if found["bytes"] != entry["bytes"]:
            problems.append(f"{name} has {found['bytes']:,} bytes, not {entry['bytes']:,}")
        elif found["sha256"] != entry["sha256"]:
            problems.append(f"{name} has other bytes than were written (sha256 {found['sha256'][:12]})")
    return problems


def _own_sha256(content: dict[str, Any]) -> str:
    text = json.dumps({key: value for key, value in content.items() if key != "sha256"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
