"""Bulk encoding: ours beside tiktoken, sentencepiece and tokenizers, on the same text, one core each.

    python -m benchmarks.tokenizers installed wikipedia=DUMPS --tokenizers meta-llama-3-8B.tiktoken llama2-tokenizer.model

The text is that of sources (docs/sources.md), each with the PATH it reads; installed, the code and documentation of this
Python, needs none. The ids are compared first. write_shards is timed too: text to token shards on the disk."""

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.alternate import COLUMNS, alternate, markdown_row
from llama_train.errors import one_line_errors

MOST = 16e6  # bytes of each kind of text: `tokenizers` takes ten seconds for them
DOCUMENT_CHARS = 8000  # a page or two, as documents from the web have
PEERS = {"llama2": ("sentencepiece", "tokenizers"), "llama3": ("tiktoken", "tokenizers")}


def main() -> None:
    """Compare, write the results and print a table; with --side, be one of those that are compared."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("text", nargs="+", metavar="SOURCE[=PATH]")
    parser.add_argument("--tokenizers", nargs="+", required=True, metavar="PATH")
    parser.add_argument("--out", type=Path, default=Path("tokenizers.json"), metavar="FILE.json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    with one_line_errors():
        if options.side:
            texts = json.loads(Path(options.text[0]).read_text(encoding="utf-8"))
            print(json.dumps({"seconds": seconds(options.side, options.tokenizers[0], texts)}))
            return
        texts = [text for name in options.text for text in read(name)]
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder, "texts.json")
            kept.write_text(json.dumps(texts), encoding="utf-8")
            results = [result for path in options.tokenizers for result in compare(path, texts, kept, options)]
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        print(COLUMNS, *map(markdown_row, results), sep="\n")


def compare(path: str, texts: list[str], kept: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The results of one tokenizer beside each peer; ValueError where any gives other ids."""
    from llama_train.tokenizers.folder import kind, open_tokenizer

    peers = PEERS[kind(open_tokenizer(path))]
    ids = ours(path)(texts)
    for peer in peers:
        theirs = SIDES[peer](path)(texts)
        if wrong := sum(list(a) != list(b) for a, b in zip(ids, theirs, strict=True)):
            raise ValueError(f"{path}: {peer} has other ids than ours for {wrong} of {len(texts)} documents")
    tokens, size = sum(map(len, ids)), sum(len(text.encode()) for text in texts)
    command = [sys.executable, "-m", "benchmarks.tokenizers", str(kept), "--tokenizers", path, "--side"]
    told = {"rounds": options.rounds, "unit": "MB", "amount": round(size / 1e6, 3)}
    for side, peer in [*(("ours", peer) for peer in peers), ("write_shards", peers[0])]:
        packages = ["gigatoken", "tokenizers", *({peer} - {"tokenizers"})]
        name = f"{Path(path).name}: {side} beside {peer}"
        result = alternate(name, [*command, side], [*command, peer], packages=packages, **told)
        for one in ("ours", "peer"):
            result[one]["million_tokens_per_second"] = round(tokens / 1e6 / result[one]["median_seconds"], 2)
            for long, short in ((sys.executable, "python"), (str(kept), kept.name), (path, Path(path).name)):
                result[one]["command"] = result[one]["command"].replace(long, short)
        yield result | {"documents": len(texts), "tokens": tokens, "differing_documents": 0}


def read(name: str) -> Iterator[str]:
    """Documents of at most DOCUMENT_CHARS characters, up to MOST bytes."""
    source, _, path = name.partition("=")
    left = MOST
    for document in importlib.import_module(f"data_pipelines.sources.{source}").read([path] if path else []):
        for start in range(0, len(document.text), DOCUMENT_CHARS):
            yield (text := document.text[start : start + DOCUMENT_CHARS])
            left -= len(text.encode())
            if left <= 0:
                return


def seconds(side: str, path: str, texts: list[str]) -> float:
    """CPU time of one side over all texts, less that of one text: for write_shards, this is opening the tokenizer."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    function = SIDES[side](path)
    function(texts[:100])
    start = time.process_time()
    function(texts[:1])
    opened = time.process_time()
    function(texts)
    return (time.process_time() - opened) - (opened - start)


def ours(path: str) -> Callable[[list[str]], Any]:
    from llama_train.tokenizers.encode import Encoder
    from llama_train.tokenizers.folder import open_tokenizer

    return Encoder(open_tokenizer(path)).encode_batch


def write_shards(path: str) -> Callable[[list[str]], Any]:
    from datatrove.data import Document

    from data_pipelines import tokenize
    from llama_train.tokenizers.folder import open_tokenizer, save_tokenizer

    made = tempfile.TemporaryDirectory()  # goes with the function that holds it
    folder = Path(made.name)
    save_tokenizer(open_tokenizer(path), folder / "tokenizer")

    def write(texts: list[str]) -> None:
        documents = (Document(text=text, id="") for text in texts)
        with tempfile.TemporaryDirectory(dir=made.name) as out:
            tokenize.write_shards(documents, folder / "tokenizer", Path(out, "shards"), 1, progress=False)

    return write


def tiktoken(path: str) -> Callable[[list[str]], Any]:
    from tiktoken import Encoding

    from llama_train.tokenizers.folder import open_tokenizer
    from llama_train.tokenizers.llama3 import SPLIT_PATTERN, to_ranks

    ranks, _ = to_ranks(open_tokenizer(path))
    encoding = Encoding("x", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={})
    return lambda texts: [encoding.encode_ordinary(text) for text in texts]


def sentencepiece(path: str) -> Callable[[list[str]], Any]:
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_file=path)
    return lambda texts: processor.encode(texts, num_threads=1)


def tokenizers(path: str) -> Callable[[list[str]], Any]:
    from llama_train.tokenizers.folder import open_tokenizer

    tokenizer = open_tokenizer(path)
    tokenizer.encode_special_tokens = True
    return lambda texts: [one.ids for one in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


SIDES = {function.__name__: function for function in (ours, write_shards, tiktoken, sentencepiece, tokenizers)}

if __name__ == "__main__":
    main()
