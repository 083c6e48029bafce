"""Where each publisher keeps its files, what it lets one do with them, and how it wants them fetched."""

import gzip
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

from data_pipelines.fetch_download import File
from data_pipelines.fetch_http import get

LISTING_BYTES = 2**28  # the longest, warc.paths of a crawl, has 90,000 lines of 140 bytes

Get = Callable[[str], tuple[bytes, Any]]  # a URL's (body, headers)


class Publisher(NamedTuple):
    """Whose files they are: address, form of a snapshot's name with an example, licence, terms, and how to list them."""

    base: str
    snapshot: str
    example: str
    licence: str
    terms: str
    files: Callable[[Get, str, re.Match[str]], Iterator[File]]


def list_files(source: str, snapshot: str, base_url: str | None, allow_private: bool) -> Iterator[File]:
    """The files of a snapshot, as its publisher lists them. Raises ValueError for a name that is none, or a bad listing."""
    publisher = PUBLISHERS[source]
    name = re.fullmatch(publisher.snapshot, snapshot)
    if name is None:
        raise ValueError(f"{snapshot!r} is no snapshot of {source}: they have names such as {publisher.example}")

    def get_listing(url: str) -> tuple[bytes, Any]:
        return get(url, allow_private, LISTING_BYTES)

    try:
        for file in publisher.files(get_listing, (base_url or publisher.base).rstrip("/"), name):
            if not re.fullmatch(r"(?:\w[\w.@+=~-]*/)*\w[\w.@+=~-]*", file.name):
                raise ValueError(f"the listing of {source} names a file {file.name!r}: refused")
            yield file
    except (KeyError, TypeError, AttributeError, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"the listing of {source} {snapshot} is not as it should be: {error!r}") from None


def _common_crawl(get: Get, base: str, name: re.Match[str]) -> Iterator[File]:
    kind = name["kind"] or "warc"
    listing, _ = get(f"{base}/crawl-data/{name['crawl']}/{kind}.paths.gz")
    paths = gzip.GzipFile(fileobj=io.BytesIO(listing)).read(LISTING_BYTES)
    for path in paths.decode("ascii").split():
        yield File(f"{base}/{path}", path.rpartition("/")[2])


def _c4(get: Get, base: str, name: re.Match[str]) -> Iterator[File]:
    revision = name["revision"] or "main"
    url: str | None = f"{base}/api/datasets/allenai/c4/tree/{revision}/{name['folder']}?recursive=false"
    while url:
        body, headers = get(url)
        for entry in json.loads(body):
            if entry["path"].endswith(".json.gz"):
                address = f"{base}/datasets/allenai/c4/resolve/{revision}/{quote(entry['path'])}"
                yield File(address, entry["path"], entry["lfs"]["size"], "sha256", entry["lfs"]["oid"])
        following = re.search(r'<([^>]*)>\s*;\s*rel="?next', headers.get("Link", ""))
        url = following[1] if following else None


def _wikipedia(get: Get, base: str, name: re.Match[str]) -> Iterator[File]:
    wiki = f"{name['language'].replace('-', '_')}wiki"
    body, _ = get(f"{base}/{wiki}/{name['date']}/dumpstatus.json")
    job = json.loads(body)["jobs"]["articlesmultistreamdump"]
    if job["status"] != "done":
        raise ValueError(f"the dump {wiki} {name['date']} is not finished ({job['status']}): take an earlier date")
    for file, entry in sorted(job["files"].items(), key=lambda item: _natural(item[0])):
        if ".xml" in file and file.endswith(".bz2"):  # not the index
            yield File(f"{base}/{wiki}/{name['date']}/{file}", file, entry["size"], "sha1", entry["sha1"])


def _gutenberg(get: Get, base: str, name: re.Match[str]) -> Iterator[File]:
    yield File(f"{base}/cache/epub/feeds/rdf-files.tar.bz2", "rdf-files.tar.bz2")
    for part in name[0].split(","):
        first, _, last = part.partition("-")
        for book in range(int(first), int(last or first) + 1):
            yield File(f"{base}/cache/epub/{book}/pg{book}.txt", f"pg{book}.txt", optional=True)


def _stack_exchange(get: Get, base: str, name: re.Match[str]) -> Iterator[File]:
    body, _ = get(f"{base}/metadata/{name['item']}")
    for entry in sorted(json.loads(body)["files"], key=lambda entry: entry["name"]):
        site = re.fullmatch(r"(.+?)(?:-Posts)?\.7z", entry["name"])  # of stackoverflow.com's tables that of the posts
        other = re.search(r"-(?:Badges|Comments|PostHistory|PostLinks|Tags|Users|Votes)\.7z$", entry["name"])
        if site and not other and name["site"] in (None, site[1]):
            address = f"{base}/download/{name['item']}/{quote(entry['name'])}"
            yield File(address, entry["name"], int(entry["size"]), "sha1", entry["sha1"])


def _github(get: Get, base: str, name: re.Match[str]) -> Iterator[File]:
    for repository in name[0].split(","):
        owner_name, _, ref = repository.partition("@")
        yield File(f"{base}/{owner_name}/tar.gz/{quote(ref or 'HEAD')}", f"{repository.replace('/', '_')}.tar.gz")


def _natural(name: str) -> list[str]:
    return [part.zfill(12) if part.isdecimal() else part for part in re.split("([0-9]+)", name)]


def _arxiv(get: Get, base: str, name: re.Match[str]) -> Iterator[File]:
    print("arXiv's bulk data lies where whoever downloads pays Amazon for it, so this is for you to do:")
    print(f"aws s3 cp --request-payer requester {base}/src/arXiv_src_manifest.xml .")
    yes = f"--exclude '*' --include 'arXiv_src_{name[0]}_*.tar'"
    print(f"aws s3 cp --request-payer requester --recursive {base}/src/ . {yes}", flush=True)
    yield from ()


PUBLISHERS = {
    "common_crawl": Publisher(
        "https://data.commoncrawl.org",
        r"(?P<crawl>CC-MAIN-[0-9]{4}-[0-9]{2})(?:/(?P<kind>warc|wet))?",
        "CC-MAIN-2024-33 or CC-MAIN-2024-33/wet",
        "the pages' own; Common Crawl gives no licence to them",
        "https://commoncrawl.org/terms-of-use",
        _common_crawl,
    ),
    "c4": Publisher(
        "https://huggingface.co",
        r"(?P<folder>en|en\.noblocklist|en\.noclean|realnewslike|multilingual)(?:@(?P<revision>[0-9a-f]{40}))?",
        "en or en@1588ec454efa1a09f29cd18ddd04fe05fc8653a2",
        "ODC-BY-1.0, and Common Crawl's terms for the pages in it",
        "https://huggingface.co/datasets/allenai/c4 and https://commoncrawl.org/terms-of-use",
        _c4,
    ),
    "wikipedia": Publisher(
        "https://dumps.wikimedia.org",
        r"(?P<language>[a-z]{2,3}(?:-[a-z]+)*|simple)/(?P<date>[0-9]{8})",
        "en/20260101 or simple/20260101",
        "CC-BY-SA-4.0 and GFDL-1.3",
        "https://dumps.wikimedia.org/legal.html; at most two connections at a time: this is one; their mirrors are nearer: "
        "https://dumps.wikimedia.org/mirrors.html",
        _wikipedia,
    ),
    "gutenberg": Publisher(
        "https://gutenberg.pglaf.org",
        r"[0-9]{1,6}(?:-[0-9]{1,6})?(?:,[0-9]{1,6}(?:-[0-9]{1,6})?)*",
        "1-1000 or 84,1342 (the books' numbers)",
        "public domain in the USA, but for the books that say otherwise; elsewhere ask your country's law",
        "https://www.gutenberg.org/policy/terms_of_use.html; programs may use mirrors only: "
        "https://www.gutenberg.org/MIRRORS.ALL",
        _gutenberg,
    ),
    "stack_exchange": Publisher(
        "https://archive.org",
        r"(?P<item>stackexchange(?:_[0-9]{8})?)(?:/(?P<site>[a-z0-9.-]+))?",
        "stackexchange_20240402 or stackexchange_20240402/coffee.stackexchange.com",
        "CC-BY-SA-2.5, 3.0 or 4.0, by each post's date; name the authors and link to the questions",
        "https://archive.org/about/terms and https://stackoverflow.com/help/licensing",
        _stack_exchange,
    ),
    "arxiv": Publisher(
        "s3://arxiv",
        "[0-9]{4}",
        "2301 (year and month)",
        "each paper's own, mostly arXiv's licence to distribute, which is none for others; the metadata say which",
        "https://info.arxiv.org/help/bulk_data_s3.html and https://info.arxiv.org/help/api/tou.html",
        _arxiv,
    ),
    "github": Publisher(
        "https://codeload.github.com",
        r"[\w.-]+/[\w.-]+(?:@[\w.-]+)?(?:,[\w.-]+/[\w.-]+(?:@[\w.-]+)?)*",
        "pallets/click or pallets/click@8.1.7,psf/requests",
        "each repository's own: the reader keeps MIT, BSD and Apache",
        "https://docs.github.com/site-policy/github-terms/github-terms-of-service",
        _github,
    ),
}
