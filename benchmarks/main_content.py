"""The main content of pages: ours beside resiliparse's and trafilatura's, on trafilatura's own evaluation set.

    python -m benchmarks.main_content TRAFILATURA/tests

TRAFILATURA is a checkout of github.com/adbar/trafilatura. For each page its evaldata.json lists phrases that belong to
the text ("with") and phrases that do not ("without"); they are counted as tests/evaluate.py there counts them. The
extractors take turns with the whole set; of their CPU times, decoding included, the medians are printed."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llama_train.errors import one_line_errors

WARM = b"<html><body><p>The first page imports what an extractor needs.</p></body></html>"


def pages(folder: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each page of the evaluation set and what is known of it."""
    known = json.loads((folder / "evaldata.json").read_text(encoding="utf-8"))
    for page in known.values():
        files = [folder / place / page["file"] for place in ("cache", "eval")]
        yield next((file for file in files if file.is_file()), files[-1]).read_bytes(), page


def count(text: str, page: Mapping[str, Any]) -> tuple[int, int, int]:
    """Phrases of the text that were found, phrases found that are not of it, phrases of it that are missing."""
    text = " ".join(text.split())
    right, wrong = (sum(" ".join(phrase.split()) in text for phrase in page[key]) for key in ("with", "without"))
    return right, wrong, len(page["with"]) - right


def ours() -> Callable[[bytes], str]:
    from data_pipelines.text.html import decode, html_to_text

    def extract(page: bytes) -> str:
        try:
            return html_to_text(decode(page))
        except RecursionError:  # one page has thousands of tags that nothing closes
            return ""

    return extract


def resiliparse() -> Callable[[bytes], str]:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    return lambda page: extract_plain_text(bytes_to_str(page, detect_encoding(page)), main_content=True)


def trafilatura() -> Callable[[bytes], str]:
    from trafilatura import extract

    return lambda page: extract(page, include_comments=False) or ""


SIDES = {"ours": ours, "resiliparse": resiliparse, "trafilatura": trafilatura}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path, metavar="TRAFILATURA/tests")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with one_line_errors():
        items = list(pages(options.path))
        extractors = {name: side() for name, side in SIDES.items()}
        seconds: dict[str, list[float]] = {name: [] for name in SIDES}
        texts: dict[str, list[str]] = {}
        for _ in range(options.rounds):
            for name, extract in extractors.items():
                extract(WARM)
                start = time.process_time()
                texts[name] = [extract(html) for html, _ in items]
                seconds[name].append(time.process_time() - start)
    print("| extractor | precision | recall | F1 | pages/s |", "|---|---|---|---|---|", sep="\n")
    for name in SIDES:
        counts = [count(text, page) for text, (_, page) in zip(texts[name], items, strict=True)]
        right, wrong, missing = map(sum, zip(*counts, strict=True))
        scores = right / (right + wrong), right / (right + missing), 2 * right / (2 * right + wrong + missing)
        speed = len(items) / statistics.median(seconds[name])
        print(f"| {name} |", *(f"{score:.3f} |" for score in scores), f"{speed:.0f} |")


if __name__ == "__main__":
    main()
