"""`llama-data`: raw text to token shards, from the command line."""

import argparse
from collections.abc import Sequence

from llama_train.errors import one_line_errors

EXAMPLES = """examples:
  llama-data build --source files ~/texts --out data/mine --vocab_size 8192
  llama-data build --source installed --out data/quickstart --vocab_size 8192 --max_bytes 15500000
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; mistakes end in one line and exit code 1 (unknown words on the command line: 2)."""
    arguments = _parser().parse_args(argv)
    with one_line_errors():
        _build(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llama-data", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    build = verbs.add_parser(
        "build",
        help="raw text -> tokenizer and token shards",
        description="Text, exactly deduplicated, becomes a held-out part, a Llama 3 tokenizer and token shards in DIR.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    build.add_argument("paths", nargs="*", metavar="PATH", help="files or folders: .txt .md .jsonl .jsonl.gz .parquet")
    build.add_argument(
        "--source",
        choices=("installed", "files"),
        required=True,
        help="installed: code and documentation of this Python and its packages; files: the PATHs",
    )
    build.add_argument("--out", required=True, metavar="DIR", help="folder to build; reused if nothing has changed")
    build.add_argument("--vocab_size", type=_count, required=True, metavar="N", help="ids, special tokens included")
    build.add_argument("--max_bytes", type=_count, metavar="N", help="stop after N bytes of text (default: all)")
    build.add_argument(
        "--heldout_bytes", type=_count, metavar="N", help="text to hold out (default: 2.5 %% of it, at most 4 MB)"
    )
    build.add_argument("--text_column", default="text", metavar="NAME", help="column of .jsonl and .parquet")
    return parser


def _count(word: str) -> int:
    if not word.isdecimal() or int(word) == 0:
        raise argparse.ArgumentTypeError(f"{word!r} is not a whole number above 0")
    return int(word)


def _build(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from data_pipelines.build import build_corpus

    if arguments.source == "files" and not arguments.paths:
        raise ValueError("--source files needs at least one PATH to read")
    if arguments.source == "installed" and arguments.paths:
        raise ValueError(f"--source installed takes no PATH, got {arguments.paths[0]}: to read it, use --source files")
    corpus = build_corpus(
        arguments.source,
        arguments.paths,
        Path(arguments.out),
        vocab_size=arguments.vocab_size,
        max_bytes=arguments.max_bytes,
        heldout_bytes=arguments.heldout_bytes,
        text_column=arguments.text_column,
    )
    print(f"{'':10}{'documents':>12}{'bytes':>14}{'tokens':>14}")
    for name in ("train", "eval"):
        sizes = [corpus[key][name] for key in ("documents", "bytes", "tokens")]
        print(f"{name:10}{sizes[0]:12,}{sizes[1]:14,}{sizes[2]:14,}   {Path(arguments.out, name)}")
    print(f"tokenizer {Path(arguments.out, 'tokenizer')}")


if __name__ == "__main__":
    main()
