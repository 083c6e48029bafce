"""A record's text and language: the language is not told where somebody else will."""

from data_pipelines.dumps.warc import Record
from data_pipelines.sources.common_crawl import DEFAULTS
from data_pipelines.text import web_page


def task(model: str | None) -> web_page.Task:
    text = b"This is a page of plain English text.\n" * 5
    return web_page.Task(Record("conversion", {}, text, len(text)), "text", DEFAULTS | {"language_model": model})


def test_no_model_means_no_language(monkeypatch):
    assert web_page.parse(task("")).language == "en"
    monkeypatch.setattr(web_page, "identify", None)  # is not called
    page = web_page.parse(task(None))
    assert (page.language, page.language_score) == ("", 0.0) and page.text.startswith("This is a page")
