"""A source's settings: its defaults, what was given, and mistakes by name."""

import importlib

import pytest

from data_pipelines.settings import SOURCES, source_settings


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_says_its_defaults_and_describes_them(source):
    module = importlib.import_module(f"data_pipelines.sources.{source}")
    assert source_settings(source, {}) == module.DEFAULTS
    for name in module.DEFAULTS:
        assert name in (module.read.__doc__ or ""), f"{source}.read does not say what {name} is"


def test_text_becomes_the_type_of_the_default():
    assert source_settings("arxiv", {"abstract": "TRUE", "workers": "4"}) == source_settings(
        "arxiv", {"abstract": True, "workers": 4}
    )


@pytest.mark.parametrize(
    ("source", "given", "message"),
    [
        ("arxiv", {"abstrct": True}, "source arxiv has no setting 'abstrct': did you mean abstract?"),
        ("files", {"zzz": 1}, "source files has no setting 'zzz': it has text_column"),
        ("arxiv", {"workers": "many"}, "workers is 'many': it must be like its default, 1"),
        ("arxiv", {"abstract": "perhaps"}, "abstract is 'perhaps': it must be like its default, False"),
        ("arxiv", {"workers": True}, "workers is True"),
        ("arxiv", {"workers": "0"}, "workers is 0: it takes 1 process or more"),
        ("archive", {}, "there is no source 'archive': choose one of common_crawl, "),
    ],
)
def test_mistakes_are_named(source, given, message):
    with pytest.raises(ValueError, match="^" + message.replace("?", r"\?").replace("(", r"\(")):
        source_settings(source, given)
