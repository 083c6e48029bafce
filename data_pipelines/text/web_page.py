"""A web archive's record made text: the response opened, its HTML read, its language told."""

from typing import Any, NamedTuple

from data_pipelines.dumps.http_body import BadBody, parse_response
from data_pipelines.dumps.warc import Record
from data_pipelines.pool import Failure
from data_pipelines.text.html import decode, html_to_text, license_of, tidy
from data_pipelines.text.language import identify

HTML = ("text/html", "application/xhtml+xml")


class Page(NamedTuple):
    """What comes of a record: its text and what is known of it."""

    text: str
    language: str
    language_score: float
    license: str | None
    content_type: str


class Dropped(NamedTuple):
    """The rule that left a record out."""

    reason: str


class Task(NamedTuple):
    """A record on its way to its text. kind: "http" for a response as it was sent, "html" for a page alone, "text".

    Its setting language_model is None where whoever reads the page judges its language later."""

    record: Record
    kind: str
    settings: dict[str, Any]


def parse(task: Task) -> Page | Dropped | Failure:
    """The text of a record and its language; runs in a process of its own."""
    content, content_type, license = task.record.content or b"", "text/plain", None
    if task.kind == "text":
        text = tidy(content.decode("utf-8", "replace"))
    else:
        content_type, charset = "text/html", None
        if task.kind == "http":
            try:
                response = parse_response(content, cut_off="warc-truncated" in task.record.headers)
            except BadBody as error:
                return Failure(str(error))
            if response.status != 200:
                return Dropped("HTTP status other than 200")
            content, content_type, charset = response.body, response.content_type, response.charset
            if not content.strip(b"\0\t\r\n "):
                return Dropped("empty")
            if content_type not in HTML and (content_type or content.lstrip()[:1] != b"<"):
                return Dropped("not HTML")
        html = decode(content, charset)
        try:
            text = html_to_text(html, task.settings["extractor"])
        except RecursionError:
            return Failure("nested too deeply")
        license = license_of(html)
    if not text:
        return Dropped("no text")
    model = task.settings["language_model"]
    language, score = identify(text, model) if model is not None else ("", 0.0)
    if wanted := task.settings["languages"]:
        if language not in [code.strip() for code in wanted.split(",")]:
            return Dropped("another language")
        if score < task.settings["language_score"]:
            return Dropped("language uncertain")
    return Page(text, language, score, license, content_type)
