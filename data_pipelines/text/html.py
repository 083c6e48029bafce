"""HTML to text: the main content of a page, with its code, formulas, lists, tables and the words for its pictures."""

import importlib
import re
from functools import lru_cache
from typing import Any

from data_pipelines.text.main_content import keep_main_content

# Browsers stop at 512 levels; resiliparse's time grows with the depth (1,000 levels of <div>: 45 ms; 10^6: minutes)
MAX_DEPTH = 1000
TAG = re.compile(r"</?[a-zA-Z][a-zA-Z0-9-]*")
# elements that have no content, or that the next one of their kind closes: repeating them nests nothing
FLAT = frozenset(
    "area base br col embed hr img input link meta param source track wbr p li dd dt tr td th tbody thead tfoot option"
    " optgroup rp rt colgroup a button h1 h2 h3 h4 h5 h6 script style form frameset frame html head body".split()
)
CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]")
SKIPPED = ["noframes", "noembed", "iframe", "svg"]  # what browsers do not show, or not as text
RENDERED = ".mwe-math-element, .katex, mjx-container"  # around MathML, with a second rendering
# browsers show two words; looking back from the tag's name takes a twentieth of the time of looking back first
IMAGE_IN_WORD = re.compile(r"<img\b(?<=\w<img)[^<>]*+>(?=\w)", re.IGNORECASE)
MATHJAX = ".MathJax, .MathJax_Preview, .MathJax_Display, .MathJax_CHTML, .MathJax_SVG"
DISPLAY_STYLE = re.compile(r"^\{\\displaystyle\s*(.*?)\s*\}$")  # around all of Wikipedia's
LITTLE = 400  # characters: where less is left of a page, its frame may have been its content
LICENSE_LINK = re.compile(
    r"""(?:href|resource|content)\s*=\s*["']?https?://(?:www\.)?creativecommons\.org/
        (?:licenses/(by(?:-n[cd]|-sa){0,2})/(\d\.\d)|publicdomain/(zero|mark)/(1\.0))""",
    re.IGNORECASE | re.VERBOSE,
)


def decode(page: bytes, charset: str | None = None) -> str:
    """A page's bytes as text: by its byte order mark, else `charset` (the HTTP header's), else its <meta>, else a guess.

    A few bytes that are wrong in UTF-8 become U+FFFD each. They do not make the whole page windows-1252."""
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

    for mark, name in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if page.startswith(mark):
            return page[len(mark) :].decode(name, "replace")
    declared = map_encoding_to_html5(charset, fallback_utf8=False) if charset else None
    encoding = declared or detect_encoding(page, from_html_meta=True) or "utf-8"
    try:
        return page.decode("utf-8" if encoding.startswith("utf-16") else encoding)
    except (UnicodeDecodeError, LookupError):
        pass
    text = page.decode("utf-8", "replace")
    if text.count("\ufffd") * 50 < len(re.sub(rb"[\x00-\x7f]", b"", page)):
        return text
    return bytes_to_str(page, detect_encoding(page) or encoding, errors="replace", fallback_encodings=())


def check_extractor(extractor: str) -> None:
    """Raises ValueError for an extractor that `html_to_text` does not have, or that is not installed."""
    if extractor not in ("resiliparse", "trafilatura"):
        raise ValueError(f"extractor is {extractor!r}: choose resiliparse or trafilatura")
    try:
        importlib.import_module(extractor)
    except ImportError as error:
        raise ValueError(f"the extractor {extractor} does not import ({error}): pip install {extractor}") from error


def html_to_text(html: str, extractor: str = "resiliparse") -> str:
    """The main content of a page, one block a line; "" where there is none. Raises RecursionError beyond 1,000 levels."""
    if _depth(html) > MAX_DEPTH:
        raise RecursionError(f"HTML nested deeper than {MAX_DEPTH} levels")
    if extractor == "trafilatura":
        import trafilatura

        return tidy(trafilatura.extract(html, include_comments=False, include_images=False) or "")
    html = IMAGE_IN_WORD.sub(r" \g<0> ", html)
    text = _main_content(html)
    if len(text) < LITTLE and len(more := _main_content(html, gently=True)) > 2 * len(text):
        return more
    return text


def license_of(html: str) -> str | None:
    """The SPDX name of the Creative Commons licence that all such links of a page name; None where they differ."""
    names = set()
    for match in LICENSE_LINK.finditer(html):
        kind, version, public, public_version = match.groups()
        if public:
            names.add("CC0-1.0" if public.lower() == "zero" else "CC-PDM-1.0")
        else:
            names.add(f"CC-{kind.upper()}-{version}")
    return names.pop() if len(names) == 1 else None


def tidy(text: str) -> str:
    """Text as all sources write it: "\\n" ends a line, nothing a blank; one blank line at most; no control characters."""
    text = CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\x0c", "\n"))
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    return re.sub("\n{3,}", "\n\n", text).strip()


def _main_content(html: str, gently: bool = False) -> str:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(html)
    if tree.body is None:
        return ""
    if "math" in html or "displaystyle" in html:
        _formulas_to_tex(tree)
    keep_main_content(tree, gently)
    text = extract_plain_text(tree, list_bullets=True, skip_elements=SKIPPED)
    return tidy(text.replace("\xa0", " ").replace("\xad", ""))  # no-break spaces and soft hyphens are layout


# .values(): going through the list that query_selector_all returns, without it, takes time that grows with its square


def _formulas_to_tex(tree: Any) -> None:
    """Each formula once, as $TeX$, where the page has its TeX: in MathML's annotation or alttext, an image's alt text or
    a MathJax script. Pages carry formulas up to three times, for different readers."""
    for formula in tree.body.query_selector_all("math").values():
        note = formula.query_selector('annotation[encoding*="tex" i]')
        if tex := (note.text if note else formula.getattr("alttext")) or "":
            _replace(tree, formula.closest(RENDERED) or formula, tex)
    scripts = tree.body.query_selector_all('script[type^="math/tex"]').values()
    if scripts:
        for rendered in tree.body.query_selector_all(MATHJAX).values():
            rendered.remove()
    for script in scripts:
        _replace(tree, script, script.text)
    for image in tree.body.query_selector_all('img[alt*="displaystyle"]').values():
        _replace(tree, image, image.getattr("alt"))


def _replace(tree: Any, element: Any, tex: str) -> None:
    tex = DISPLAY_STYLE.sub(r"\1", " ".join(tex.split()))
    if element.parent is not None:
        element.replace_with(tree.create_text_node(f"${tex}$"))


@lru_cache(1000)
def _step(tag: str) -> int:
    if tag.strip("</").lower() in FLAT:
        return 0
    return -1 if tag.startswith("</") else 1


def _depth(html: str) -> int:
    depth = deepest = 0
    for step in map(_step, TAG.findall(html)):
        depth += step
        if depth > deepest:
            deepest = depth
        elif depth < 0:
            depth = 0
    return deepest
