"""Copies a folder of token shards from an fsspec file system: several files at a time, each checked, each taken up again."""

import hashlib
import json
import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

STREAMS = 8  # files at a time: one stream seldom fills a connection to an object store
BLOCK = 8 * 2**20  # bytes in a request
PAUSES = (1.0, 4.0, 16.0)  # seconds before a file that broke off is taken up again


def copy_shards(fs: Any, path: str, text: bytes, folder: Path, url: str) -> None:
    """Make `folder`, with what lies at `path` of an fsspec file system `fs` and has `text` as its manifest.json.

    url: how to call it. Copies go to `folder`.partial and stay there when something fails, for the next attempt. Raises
    OSError for shards that are corrupted there and for a full disk, ValueError for a manifest that is none, and whatever
    the file system raises."""
    from tqdm import tqdm

    manifest = _check(text, url)
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir(exist_ok=True)
    sizes = _sizes(manifest)
    done, total = sum(file.stat().st_size for file in partial.iterdir()), sum(sizes.values())
    free = shutil.disk_usage(partial).free
    if total - done > free:
        raise OSError(
            f"they take {total / 1e9:,.1f} GB, {done / 1e9:,.1f} of them are in {partial}, and {free / 1e9:,.1f} are free "
            "there: make room, or set XDG_CACHE_HOME to a larger disk of this machine"
        )
    print(f"copying {total / 1e9:,.2f} GB of token shards from {url} to {folder}", flush=True)
    stop = threading.Event()
    with (
        tqdm(total=total, initial=done, unit="B", unit_scale=True, disable=None) as progress,
        ThreadPoolExecutor(STREAMS) as pool,
    ):
        copies = [
            pool.submit(_copy_shard, fs, path, partial, shard, sizes, progress, stop) for shard in manifest["shards"]
        ]
        try:
            for copy in as_completed(copies):
                copy.result()
        finally:  # after an error or Ctrl-C the others end as well; what they have stays
            stop.set()
            pool.shutdown(cancel_futures=True)
        (partial / "token_bytes.npy").write_bytes(fs.cat_file(f"{path}/token_bytes.npy"))
    (partial / "manifest.json").write_bytes(text)
    partial.rename(folder)


def _copy_shard(
    fs: Any,
    path: str,
    partial: Path,
    shard: dict[str, Any],
    sizes: dict[str, int],
    progress: Any,
    stop: threading.Event,
) -> None:
    """The two files of a shard. They have `.part` after their names until their sha256 is the manifest's."""
    names = (shard["tokens_file"], shard["documents_file"])
    if (partial / names[0]).is_file():  # named last
        return
    parts = [partial / f"{name}.part" for name in names]
    if (partial / names[1]).is_file():
        (partial / names[1]).rename(parts[1])
    for _ in range(2):  # once more from the beginning, should only this copy be bad
        for name, part in zip(names, parts, strict=True):
            _fetch(fs, f"{path}/{name}", part, sizes[name], progress, stop)
        if stop.is_set():
            return
        if _sha256(parts) == shard["sha256"]:
            for name, part in zip(names[::-1], parts[::-1], strict=True):
                part.rename(partial / name)
            return
        for part in parts:
            progress.update(-part.stat().st_size)
            part.unlink()
    raise OSError(f"{names[0]} and {names[1]} are corrupted there (sha256): copy or build them again")


def _sizes(manifest: dict[str, Any]) -> dict[str, int]:
    width = 2 if manifest["dtype"] == "uint16" else 4
    shards = manifest["shards"]
    tokens = {shard["tokens_file"]: shard["tokens"] * width for shard in shards}
    return tokens | {shard["documents_file"]: shard["documents"] * 8 for shard in shards}


def _fetch(fs: Any, source: str, target: Path, size: int, progress: Any, stop: threading.Event) -> None:
    """Append to `target` what it still lacks of `size` bytes. Raises what the last of several attempts did."""
    block_size = BLOCK
    for pause in (*PAUSES, None):
        have = target.stat().st_size if target.exists() else 0
        if have == size:
            return
        try:
            with fs.open(source, "rb", block_size=block_size) as remote, target.open("ab") as local:
                if have:
                    remote.seek(have)
                while have < size and not stop.is_set() and (block := remote.read(min(BLOCK, size - have))):
                    local.write(block)
                    have += len(block)
                    progress.update(len(block))
                local.flush()
                os.fsync(local.fileno())
            if have >= size or stop.is_set():
                return
            raise OSError(f"{source} broke off after {have:,} of {size:,} bytes")
        except (FileNotFoundError, PermissionError):
            raise
        except (ValueError, NotImplementedError):  # a web server that does not know ranges: again as one stream
            if pause is None:
                raise
            block_size = 0
            progress.update(-target.stat().st_size)
            target.unlink()
        except Exception:  # of the network, by whatever name the protocol's package calls it
            if pause is None or stop.wait(pause):
                raise


def _sha256(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _check(text: bytes, url: str) -> dict[str, Any]:
    """The manifest, whose names may not lead out of its folder."""
    try:
        manifest = json.loads(text)
        for shard in manifest["shards"]:
            if not re.fullmatch("[0-9a-f]{64}", shard["sha256"]) or min(shard["tokens"], shard["documents"]) < 0:
                raise ValueError(f"{shard['sha256']} is no sha256, or a count is negative")
            for name in (shard["tokens_file"], shard["documents_file"]):
                if not re.fullmatch(r"[\w-]+\.bin", name):
                    raise ValueError(f"{name} is not the name of a shard")
        if manifest["dtype"] not in ("uint16", "uint32"):
            raise ValueError(f"dtype {manifest['dtype']}")
        str(manifest["tokenizer"]["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{url}/manifest.json is broken ({error}): copy the shards there again") from None
    return manifest
