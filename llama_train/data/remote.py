"""Token shards that lie elsewhere (s3://, gs://, https://, whatever fsspec opens), copied to this machine's disk once.

They go to $XDG_CACHE_HOME/llama_train/shards/<sha256 of their manifest>, so other shards at the same address have another
place. A folder with that name is whole: it gets it when every shard has had the manifest's sha256.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from llama_train.data.remote_copy import copy_shards

LOCAL_ONLY = ("output_dir", "model_name_or_path", "resume_from_checkpoint")
BESIDE_TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def is_url(path: str | None) -> bool:
    """Whether a setting names a place that fsspec has to open."""
    return path is not None and "://" in path


def with_local_shards(settings: Any) -> Any:
    """A copy of the settings whose shards and tokenizer lie on this machine, copied here where they did not.

    Processes of one machine call it before they form a group: one copies, the others wait for it without limit. Raises
    ValueError for a URL where only a folder will do, OSError or ImportError where something cannot be copied."""
    for name in LOCAL_ONLY:
        if is_url(getattr(settings, name)):
            raise ValueError(f"{name}: {redact(getattr(settings, name))} is a URL, it must be a folder of this machine")
    changes: dict[str, str] = {}
    for name in ("dataset_path", "eval_dataset_path"):
        if is_url(url := getattr(settings, name)):
            changes[name] = str(stage(url))
    tokenizer = settings.tokenizer_name_or_path
    if is_url(tokenizer):
        if (found := stage_tokenizer(tokenizer)) is None:
            raise FileNotFoundError(f"tokenizer_name_or_path: there is no tokenizer.json in {tokenizer}")
        changes["tokenizer_name_or_path"] = str(found)
    elif tokenizer is None and "dataset_path" in changes:  # as on a disk, it may lie beside the shards it made
        made_with = json.loads(Path(changes["dataset_path"], "manifest.json").read_bytes())["tokenizer"]["sha256"]
        found = None
        with suppress(OSError):  # object stores say "forbidden" of what is not there
            found = stage_tokenizer(f"{settings.dataset_path.rstrip('/').rpartition('/')[0]}/tokenizer")
        if found and found.name == made_with:
            changes["tokenizer_name_or_path"] = str(found)
    return replace(settings, **changes)


def stage(url: str) -> Path:
    """The folder on this machine with the token shards of `url`. A copy that broke off is taken up where it was."""
    with _explained(url):
        fs, path = _open(url)
        text = fs.cat_file(f"{path}/manifest.json")
    folder = _cache("shards") / hashlib.sha256(text).hexdigest()
    if not folder.is_dir():
        from filelock import FileLock

        with FileLock(folder.with_name(f"{folder.name}.lock")):  # the system's own: it falls with whoever holds it
            if not folder.is_dir():
                with _explained(url):
                    copy_shards(fs, path, text, folder, url)
    return folder


def stage_tokenizer(url: str) -> Path | None:
    """The folder on this machine with the tokenizer of `url`, named by its fingerprint; None where there is none."""
    with _explained(url):
        fs, path = _open(url)
        try:
            files = {"tokenizer.json": fs.cat_file(f"{path}/tokenizer.json")}
        except FileNotFoundError:
            return None
        files |= {name: fs.cat_file(f"{path}/{name}") for name in BESIDE_TOKENIZER if fs.exists(f"{path}/{name}")}
    folder = _cache("tokenizers") / hashlib.sha256(files["tokenizer.json"]).hexdigest()
    if not folder.is_dir():
        partial = Path(tempfile.mkdtemp(dir=folder.parent))
        for name, content in files.items():
            (partial / name).write_bytes(content)
        try:
            partial.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(partial)
    return folder


def _cache(kind: str) -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llama_train" / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def redact(text: str) -> str:
    """A text without the passwords and queries of URLs in it: other people's error messages quote them."""
    text = re.sub(r"(?<=://)[^\s/@]*:\S*@", "", text)
    return re.sub(r"(://[^\s?'\"]*)\?[^\s'\"]*", r"\1", text)


def _open(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it."""
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    if redact(url) != url:
        raise ValueError(
            f"{redact(url)}: a URL with a password or a query in it would be written into config.yaml and logs: leave "
            "that to the environment, as the protocol's package reads it"
        )
    protocol = url.partition("://")[0]
    try:
        fs, path = url_to_fs(url)
    except ImportError as error:
        package = known_implementations.get(protocol, {"class": "fsspec"})["class"].partition(".")[0]
        hint = "" if package == "fsspec" else f": pip install {package}"
        raise ImportError(f"{protocol}:// needs a package that is not installed ({error}){hint}") from None
    return fs, path.rstrip("/")


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """What the packages behind fsspec raise, of which each has types of its own, as one line that can be acted upon."""
    try:
        yield
    except (ImportError, ValueError):  # ours, and fsspec's for an unknown protocol
        raise
    except FileNotFoundError:
        raise FileNotFoundError(f"{url} holds no token shards (no manifest.json), or lacks a file it names") from None
    except Exception as error:
        said = redact(" ".join(str(error).split())) or type(error).__name__
        hint = ""
        if isinstance(error, PermissionError) or re.search(
            r"credential|forbidden|denied|\b40[13]\b|anonymous", said, re.I
        ):
            hint = (
                "; this machine has no credentials that open it: S3 reads AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or "
                "~/.aws, Google GOOGLE_APPLICATION_CREDENTIALS"
            )
        raise OSError(f"{url} cannot be copied here: {said}{hint}") from None
