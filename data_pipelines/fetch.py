"""The public files of a source's snapshot, downloaded as their publisher wants it."""

import itertools
from pathlib import Path

from data_pipelines.fetch_download import download
from data_pipelines.fetch_sources import PUBLISHERS, list_files


def fetch(
    source: str,
    snapshot: str,
    limit: int | None,
    out: str | Path,
    *,
    base_url: str | None = None,
    allow_private: bool = False,
    dry_run: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Download the first `limit` files (None: all) of a snapshot into the folder `out`, one after the other; their paths.

    First prints whose they are and on what terms. What is there already is checked and kept, what broke off is taken up.
    base_url: a mirror. allow_private: http and private addresses too, for tests. dry_run: only print the files.
    Nothing is downloaded for arxiv: the commands are printed that do it, at the user's expense.
    Raises ValueError for a source or snapshot there is not, and for content, sizes or checksums that are wrong; OSError
    where a server or the disk will not."""
    if source not in PUBLISHERS:
        raise ValueError(f"nobody publishes {source!r}: choose one of {', '.join(PUBLISHERS)}")
    publisher = PUBLISHERS[source]
    print(f"{source} {snapshot} from {base_url or publisher.base}")
    print(f"licence: {publisher.licence}")
    print(f"terms:   {publisher.terms}", flush=True)
    files = list(itertools.islice(list_files(source, snapshot, base_url, allow_private), limit))
    if not files and source == "arxiv":  # which has said what to do instead
        return []
    if not files:
        raise ValueError(f"{source} {snapshot} has no files of the kind read here")
    if dry_run:
        for file in files:
            print(f"{file.url}  {'' if file.size is None else f'{file.size:,} bytes'}".rstrip())
        return []
    known = sum(file.size or 0 for file in files)
    print(f"{len(files):,} files{f', {known:,} bytes' if known else ''} to {out}", flush=True)
    found = []
    for file in files:
        path = download(file, Path(out), allow_private, progress)
        if path is None:
            print(f"{file.url} is not there: passed over")
        else:
            found.append(path)
    return found
