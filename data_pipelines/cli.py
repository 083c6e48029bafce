"""`llama-data`: raw dumps to documents, tokenizers and token shards, from the command line."""

import argparse
import signal
import sys
from collections.abc import Sequence

from data_pipelines.settings import SOURCES, source_settings
from data_pipelines.tokenizer_cli import add_verbs, count
from llama_train.errors import one_line_errors

EXAMPLES = """examples:
  llama-data build --source wikipedia enwiki-20260601-pages-articles-multistream.xml.bz2 --out data/enwiki --workers 8
  llama-data build --source files ~/texts --out data/mine --vocab_size 8192
  llama-data build --source installed --out data/quickstart --vocab_size 8192 --max_bytes 15500000
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; mistakes end in one line and exit code 1 (unknown words on the command line: 2)."""
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser(_source(words)).parse_args(words)
    # A process of its own ends by these as by Ctrl-C, with nothing left behind. But no handler runs while a tokenizer is
    # learned, which is one long call: there they end it at once, and the next run clears up.
    if argv is None and words[:1] != ["tokenizer"]:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    with one_line_errors():
        arguments.run(arguments)


def _source(words: Sequence[str]) -> str | None:
    """The source that is named, whose settings then are words of the command line too."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--source", choices=SOURCES)
    try:
        return parser.parse_known_args(words)[0].source
    except argparse.ArgumentError:  # the real parser will say so
        return None


def _parser(source: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llama-data", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    build = verbs.add_parser(
        "build",
        help="raw dumps or text -> documents; with --vocab_size or --tokenizer also token shards",
        description="Raw files become documents in DIR: Parquet, exactly deduplicated, every record accounted for. With "
        "--vocab_size or --tokenizer also a held-out part and token shards. With --source NAME --help the settings "
        "of that source are listed too (docs/sources.md).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    build.add_argument("paths", nargs="*", metavar="PATH", help="dumps as they are downloaded, or folders of them")
    build.add_argument(
        "--source",
        choices=SOURCES,
        required=True,
        help="what the PATHs are; files: .txt .md .jsonl .jsonl.gz .parquet; installed: no PATH, but the code and "
        "documentation of this Python and its packages",
    )
    build.add_argument("--out", required=True, metavar="DIR", help="folder to build; reused if nothing has changed")
    build.add_argument(
        "--vocab_size",
        type=count,
        metavar="N",
        help="ids of a Llama 3 tokenizer to learn, special tokens included (default: documents only)",
    )
    build.add_argument(
        "--tokenizer", metavar="PATH", help="one to use instead, in any published form (docs/tokenizers.md)"
    )
    build.add_argument("--max_bytes", type=count, metavar="N", help="stop after N bytes of text (default: all)")
    build.add_argument(
        "--heldout_bytes", type=count, metavar="N", help="text to hold out (default: 2.5 %% of it, at most 4 MB)"
    )
    if source:
        own = build.add_argument_group(f"settings of {source}")
        for name, default in source_settings(source, {}).items():
            own.add_argument(f"--{name}", metavar="VALUE", default=default, help=f"default: {default!r}")
    build.set_defaults(run=_build)

    look = verbs.add_parser(
        "inspect",
        help="what is in a folder of documents: samples, what was kept and why not, lengths, languages; and a picture",
        description="Random documents, the account of what was kept and dropped, lengths and languages of DIR.",
    )
    look.add_argument(
        "folder", metavar="DIR", help="what build made, or any folder or file of Parquet with a text column"
    )
    look.add_argument("--count", type=count, default=5, metavar="N", help="documents to show (default: 5)")
    look.add_argument("--seed", type=int, default=0, metavar="N", help="another seed shows other documents")
    look.add_argument("--picture", metavar="FILE", help="where to draw it (default: inspect.png in this folder)")
    look.set_defaults(run=_inspect)

    fetch = verbs.add_parser(
        "fetch",
        help="download the public files of a snapshot, as their publisher wants it",
        description="Lists a snapshot's files, says whose they are and on what terms, downloads the first N and checks "
        "them. A download that broke off is taken up where it stopped.",
    )
    fetch.add_argument("source", choices=SOURCES[:7], metavar="SOURCE", help=", ".join(SOURCES[:7]))
    fetch.add_argument(
        "--snapshot", required=True, metavar="NAME", help="e.g. CC-MAIN-2024-33/wet, en/20260101: docs/sources.md"
    )
    fetch.add_argument("--limit", type=count, metavar="N", help="files (default: all of them)")
    fetch.add_argument("--out", required=True, metavar="DIR", help="where they go")
    fetch.add_argument("--mirror", metavar="URL", help="instead of the publisher's own address")
    fetch.add_argument("--dry_run", action="store_true", help="only list them")
    fetch.set_defaults(run=_fetch)

    add_verbs(
        verbs.add_parser(
            "tokenizer",
            help="train, grow, convert and compare Llama's tokenizers",
            description="Llama 1 and 2's tokenizer (SentencePiece BPE) and Llama 3's (byte-level BPE): docs/tokenizers.md.",
        )
    )
    return parser


def _build(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from data_pipelines.build import build_corpus

    if arguments.source != "installed" and not arguments.paths:
        raise ValueError(f"--source {arguments.source} needs at least one PATH to read")
    if arguments.source == "installed" and arguments.paths:
        raise ValueError(f"--source installed takes no PATH, got {arguments.paths[0]}: to read it, use --source files")
    corpus = build_corpus(
        arguments.source,
        arguments.paths,
        Path(arguments.out),
        vocab_size=arguments.vocab_size,
        tokenizer=arguments.tokenizer,
        max_bytes=arguments.max_bytes,
        heldout_bytes=arguments.heldout_bytes,
        given={name: getattr(arguments, name) for name in source_settings(arguments.source, {})},
    )
    if "tokens" not in corpus:
        documents, size = corpus["documents"]["train"], corpus["bytes"]["train"]
        print(f"{documents:,} documents, {size:,} bytes   {Path(arguments.out, 'documents')}")
        return
    print(f"{'':10}{'documents':>12}{'bytes':>14}{'tokens':>14}")
    for name in ("train", "eval"):
        sizes = [corpus[key][name] for key in ("documents", "bytes", "tokens")]
        print(f"{name:10}{sizes[0]:12,}{sizes[1]:14,}{sizes[2]:14,}   {Path(arguments.out, name)}")
    print(f"tokenizer {Path(arguments.out, 'tokenizer')}")


def _inspect(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from data_pipelines.inspect import inspect

    picture = Path(arguments.picture or "inspect.png")
    print(inspect(Path(arguments.folder), count=arguments.count, seed=arguments.seed, picture=picture))


def _fetch(arguments: argparse.Namespace) -> None:
    from data_pipelines.fetch import fetch

    fetch(
        arguments.source,
        arguments.snapshot,
        arguments.limit,
        arguments.out,
        base_url=arguments.mirror,
        dry_run=arguments.dry_run,
    )


if __name__ == "__main__":
    main()
