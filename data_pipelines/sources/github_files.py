"""One file of a project: a document, or the reason why it is none."""

import hashlib

from datatrove.data import Document

from data_pipelines.account import Account
from data_pipelines.clean import code
from data_pipelines.clean.license_expressions import tagged
from data_pipelines.clean.license_gate import is_license
from data_pipelines.clean.license_header import strip_header
from data_pipelines.clean.licenses import OTHER, UNKNOWN, mentioned
from data_pipelines.dumps.archives import Entry, safe_name

TAG_CHARACTERS = 5000  # at a file's start, where its own SPDX-License-Identifier is looked for


def document_of(
    entry: Entry,
    repo: str,
    url: str,
    licensed: tuple[str | None, str],
    names: set[int],
    most: int,
    account: Account,
) -> Document | None:
    """The document of one file, or None and the reason in the account."""
    account.seen += 1
    reason = _judge_entry(entry, names, most) or licensed[1] or code.judge_name(entry.path)
    if reason:
        account.dropped[reason] += 1
        return None
    try:
        raw = entry.read()
    except ValueError as error:
        account.errors[str(error)] += 1
        return None
    try:
        text, license, language = _text(raw, entry.path, licensed[0] or "")
    except ValueError as error:
        account.dropped[str(error)] += 1
        return None
    account.kept += 1
    metadata = {
        "source": "github",
        "language": "",
        "url": f"{url}/{entry.path}",
        "license": license,
        "date": entry.date,
        "bytes": len(raw),
        "repo": repo,
        "path": entry.path,
        "programming_language": language,
        "commit": entry.commit,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    return Document(text=text, id=f"github/{repo}/{entry.path}", metadata=metadata)


def _judge_entry(entry: Entry, names: set[int], most: int) -> str | None:
    if entry.special:
        return entry.special
    if not safe_name(entry.path):
        return "unsafe name"
    if hash(entry.path) in names:
        return "name seen before"
    names.add(hash(entry.path))
    if is_license(entry.path):
        return "licence text"
    return "too large" if entry.size > most else None


def _text(raw: bytes, path: str, license: str) -> tuple[str, str, str]:
    """(text without its licence header, licence, programming language); ValueError with the reason to drop the file."""
    text = code.decode(raw)
    language = code.language(path) or ""
    if code.is_generated(text):
        raise ValueError("generated")
    own = tagged(text[:TAG_CHARACTERS])
    text, header, named = strip_header(text, language)
    if own in (OTHER, UNKNOWN):
        raise ValueError(own)
    if own is None and mentioned(header + named) == OTHER:
        raise ValueError(OTHER)
    if reason := code.judge_text(text):
        raise ValueError(reason)
    return text, own or license, language
