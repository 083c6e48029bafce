"""Wikitext to text: ours beside mwparserfromhell and wikitextparser, on the articles of a dump.

    python benchmarks/wikitext.py DUMP.xml.bz2 --out wikitext.json [--megabytes 2] [--rounds 5]

Each process reads the same articles first and times only their stripping. What comes out differs: the peers keep tables
or captions that ours drops; ours keeps the words of {{convert}} and {{lang}}, which theirs drop."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.alternate import COLUMNS, alternate, markdown_row
from data_pipelines.dumps.wikipedia_dump import PAGE, chunks, cut, open_dump
from llama_train.errors import one_line_errors

PEERS = ("mwparserfromhell", "wikitextparser")


def articles(path: Path, megabytes: float) -> Iterator[str]:
    """The wikitext of a dump's pages that are no redirects, until there are this many MB (10^6 bytes of UTF-8)."""
    from lxml import etree

    left = megabytes * 1e6
    with open_dump(path) as file:
        for block in cut(chunks(file, path.stat().st_size)):
            for page in PAGE.split(block)[1:]:
                parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, recover=True)
                text = etree.fromstring(page, parser).findtext("revision/text") or ""
                if not text.startswith("#"):
                    yield text
                    left -= len(text.encode())
                if left <= 0:
                    return


def stripper(name: str) -> Callable[[str], str]:
    """A function from wikitext to text."""
    if name == "mwparserfromhell":
        import mwparserfromhell

        return lambda text: mwparserfromhell.parse(text).strip_code()
    if name == "wikitextparser":
        import wikitextparser

        return lambda text: wikitextparser.parse(text).plain_text()
    from data_pipelines.text.wikitext import plain_text

    return plain_text


def main() -> None:
    """Compare with both peers, write both results and print their rows; with --strip, be one of the commands compared."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dump", type=Path)
    parser.add_argument("--out", type=Path, default=Path("wikitext.json"))
    parser.add_argument("--megabytes", type=float, default=2, help="of wikitext")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--strip", choices=("ours", *PEERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    with one_line_errors():
        texts = list(articles(options.dump, options.megabytes))
        if options.strip:
            strip = stripper(options.strip)
            start = time.process_time()
            for text in texts:
                strip(text)
            print(json.dumps({"seconds": time.process_time() - start}))
            return
        amount = round(sum(len(text.encode()) for text in texts) / 1e6, 3)
        command = [
            sys.executable,
            "-m",
            "benchmarks.wikitext",
            str(options.dump),
            "--megabytes",
            str(options.megabytes),
        ]
        results = [
            alternate(
                f"wikitext, beside {peer}",
                [*command, "--strip", "ours"],
                [*command, "--strip", peer],
                rounds=options.rounds,
                unit="MB",
                amount=amount,
                packages=[peer],
            )
            for peer in PEERS
        ]
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        print(COLUMNS, *map(markdown_row, results), sep="\n")


if __name__ == "__main__":
    main()
