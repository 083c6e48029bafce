"""A source's own settings: its DEFAULTS, and what was given instead, with typing mistakes named."""

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

SOURCES = (
    *("common_crawl", "c4", "github", "wikipedia", "gutenberg", "arxiv", "stack_exchange"),  # as in LLaMA's mix
    *("files", "installed"),
)


def source_settings(source: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `source`: the DEFAULTS of its module in `sources/`, changed by `given`.

    Text is read as the type of the default ("4", "false"). Raises ValueError for a source there is not, for a name the
    source does not have, with the nearest one it has, and for a value of another type."""
    if source not in SOURCES:
        raise ValueError(f"there is no source {source!r}: choose one of {', '.join(SOURCES)}")
    defaults: dict[str, Any] = importlib.import_module(f"data_pipelines.sources.{source}").DEFAULTS
    settings = dict(defaults)
    for name, value in given.items():
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, n=1)
            meant = f"did you mean {near[0]}?" if near else f"it has {', '.join(defaults) or 'none'}"
            raise ValueError(f"source {source} has no setting {name!r}: {meant}")
        settings[name] = _typed(name, value, defaults[name])
    if settings.get("workers", 1) < 1:
        raise ValueError(f"workers is {settings['workers']}: it takes 1 process or more")
    return settings


def _typed(name: str, value: Any, default: Any) -> Any:
    if default is None or type(value) is type(default):
        return value
    problem = ValueError(f"{name} is {value!r}: it must be like its default, {default!r}")
    if not isinstance(value, str):
        raise problem
    try:
        return {"true": True, "false": False}[value.lower()] if isinstance(default, bool) else type(default)(value)
    except (ValueError, KeyError):
        raise problem from None
