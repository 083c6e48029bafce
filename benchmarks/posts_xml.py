"""Posts.xml: all rows and their attributes, by our scanner beside lxml's iterparse.

    python -m benchmarks.posts_xml Posts.xml --out posts_xml.json

Ours survives a broken row, sorts out what is no question and no answer, and leaves the escapes in the attributes to the
processes that parse the posts; lxml resolves them, and ends where the XML does."""

from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.beside import beside
from data_pipelines.account import Account

REPEATS = 20  # of the file: the sites small enough to have at hand take a few milliseconds


def files(path: Path) -> Iterable[Path]:
    return [path] * REPEATS


def rows(path: Path) -> float:
    """Thousands of rows in a Posts.xml."""
    return path.read_bytes().count(b"<row ") / 1000


def ours() -> Callable[[Path], int]:
    from data_pipelines.dumps.stack_exchange_posts import rows as scan

    def read(path: Path) -> int:
        with path.open("rb") as file:
            return sum(1 for _ in scan(file, Account()))

    return read


def lxml() -> Callable[[Path], int]:
    from lxml import etree

    def read(path: Path) -> int:
        count = 0
        for _, row in etree.iterparse(str(path), tag="row", resolve_entities=False, no_network=True, huge_tree=True):
            count += len(dict(row.attrib))
            row.clear()
            while row.getprevious() is not None:
                del row.getparent()[0]
        return count

    return read


if __name__ == "__main__":
    beside("posts_xml", __doc__ or "", files, rows, {"ours": ours, "lxml": lxml}, unit="thousand rows")
