import pytest

from data_pipelines.text.html import decode, html_to_text, license_of, tidy
from tests.conftest import SHARED
from tests.data_pipelines.fuzz import mutants, survive

PAGE = "<body><article><p>The first paragraph of the page.</p>{}<p>The last paragraph of the page.</p></article></body>"


def between(html: str) -> str:
    text = html_to_text(PAGE.format(html))
    return (
        text.removeprefix("The first paragraph of the page.")
        .removesuffix("The last paragraph of the page.")
        .strip("\n")
    )


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<pre>if a &lt; b:\n    c()</pre>", "if a < b:\n    c()"),
        ("<ul><li>salt<li>oil<ul><li>cold</ul></ul>", "  • salt\n  • oil\n    • cold"),
        ("<ol><li>mix</li><li>bake</li></ol>", "  1. mix\n  2. bake"),
        ("<table><tr><th>a<th>b<tr><td>1<td>2</table>", "a\t\tb\n1\t\t2"),
        ("<img src=x alt='A red fox'>", "A red fox"),
        ("<p>two<IMG src=x width=20/>words, d<img alt=x>e; <img alt=T>he end<img>.</p>", "two words, d x e; The end."),
        ("<p>one<br>two</p>", "one\ntwo"),
        ("<p>non\u00a0breaking soft\u00adhyphen</p>", "non breaking softhyphen"),
        ("<p># no *markers* of ours</p>", "# no *markers* of ours"),
        # what is not to be seen
        ("<script>var a = 1;</script><style>p {}</style><!-- no -->", ""),
        ("<p style='display:none'>hidden</p><noscript>switch it on</noscript>", ""),
        ("<nav><ul><li><a href=/>Home</a></ul></nav>", ""),
        ("<ul><li><a href=a>A long menu entry</a><li><a href=b>Another of these</a></ul>", ""),
        ("<noframes><area></noframes><iframe><b></iframe><svg><title>icon</title></svg>", ""),
    ],
)
def test_what_stays_of_an_element(html, text):
    assert between(html) == text


TEX = '<annotation encoding="application/x-tex">a^2</annotation>'


@pytest.mark.parametrize(
    "formula",
    [
        f"<math><semantics><msup><mi>a</mi><mn>2</mn></msup>{TEX}</semantics></math>",
        '<math alttext="{\\displaystyle a^2}"><mi>a</mi></math>',
        "<script type='math/tex'>a^2</script>",
        "<span class=MathJax_Preview>a2</span><span class=MathJax>a²</span><script type='math/tex'>a^2</script>",
        f"<span class=katex><span class=katex-mathml><math><mi>a</mi>{TEX}</math></span><span class=katex-html>a2</span></span>",
        f"<span class=mwe-math-element><span style='display:none'><math alttext='a^2'>{TEX}</math></span>"
        "<img alt='{\\displaystyle a^2}'></span>",
        "<img alt='{\\displaystyle a^2}'>",
    ],
)
def test_a_formula_is_there_once_and_in_tex(formula):
    assert between(f"<p>so {formula} is</p>") == "so $a^2$ is"


def test_a_formula_without_tex_keeps_its_signs():
    assert between("<p><math><mi>q</mi><mo>=</mo><mn>2</mn></math></p>") == "q=2"


@pytest.mark.parametrize(
    ("page", "charset", "text"),
    [
        ("späť".encode(), "utf-8", "späť"),
        ("späť".encode("utf-8-sig"), "windows-1252", "späť"),  # the mark comes before the header
        ("späť".encode("utf-16"), None, "späť"),
        ("<meta charset=windows-1251>ждёт".encode("cp1251"), None, "<meta charset=windows-1251>ждёт"),
        ("<meta charset=utf-8>ждёт".encode("cp1251"), "windows-1251", "<meta charset=utf-8>ждёт"),
        ("café “x”".encode("cp1252"), "iso-8859-1", "café “x”"),  # which is windows-1252 on the web
        ("吉田カバン".encode("euc-jp"), "EUC-JP", "吉田カバン"),
        (
            "Лодочник ждёт на берегу до позднего вечера".encode("koi8-r"),
            None,
            "Лодочник ждёт на берегу до позднего вечера",
        ),
        ("späť".encode(), "no such charset", "späť"),
        ("ждёт на берегу ".encode() * 30 + b"\xff", "utf-8", "ждёт на берегу " * 30 + "\ufffd"),
        ("ждёт на берегу ".encode("cp1251") * 30, "utf-8", "ждёт на берегу " * 30),  # the header lies
        (b"", None, ""),
    ],
)
def test_bytes_are_read_in_the_charset_they_have(page, charset, text):
    assert decode(page, charset) == text


@pytest.mark.parametrize(
    ("html", "license"),
    [
        ("<a rel=license href='http://creativecommons.org/licenses/by-sa/3.0/us/'>", "CC-BY-SA-3.0"),
        ('<link rel="license" href="https://creativecommons.org/licenses/by-nc-nd/4.0/legalcode">', "CC-BY-NC-ND-4.0"),
        ("<a href=https://creativecommons.org/publicdomain/zero/1.0/>", "CC0-1.0"),
        ("<a href='https://creativecommons.org/licenses/'>", None),
        ("creativecommons.org/licenses/by/4.0", None),  # spoken about
        (
            "<a href=http://creativecommons.org/licenses/by/4.0/><a href=http://creativecommons.org/licenses/by-nc/4.0/>",
            None,
        ),
    ],
)
def test_the_licence_is_what_all_links_say(html, license):
    assert license_of(html) == license


def test_text_is_tidy():
    assert tidy("\n a \r\n\r\n\r\n\r\nb\0\x07\ud800c\t\n  d\x0ce\r") == "a\n\nbc\n  d\ne"


@pytest.mark.parametrize("open", ["<div>", "<b>", "<ul><li>", "<table><tr><td>", "<font><p>", "<svg><g>", "<x-y>"])
def test_a_million_levels_are_refused_and_a_hundred_are_not(open):
    with pytest.raises(RecursionError, match="1000 levels"):
        html_to_text(open * 1_000_000)
    assert "inside" in html_to_text(open * 100 + "<p>inside of it all") or open in ("<ul><li>", "<svg><g>")


@pytest.mark.parametrize("repeated", ["<p>a", "<br>", "<li>a", "<td>", "<div></div>", "<", "<!--", "&lt;", "<script>"])
def test_many_elements_on_one_level_are_no_depth(repeated):
    html_to_text(repeated * 20_000)


def test_trafilatura_is_the_other_extractor():
    pytest.importorskip("trafilatura", exc_type=ImportError)
    html = PAGE.format("<p>" + "A paragraph in the middle of the page, which is long enough. " * 5 + "</p>")
    assert "The last paragraph" in html_to_text(html, "trafilatura")
    assert html_to_text("", "trafilatura") == html_to_text("") == ""


SEEDS = [
    PAGE.format(
        "<pre>a</pre><ul><li>b</ul><table><tr><td>c</table><math alttext='d'><mi>e</mi></math><img alt=f>"
    ).encode(),
    f"<!DOCTYPE html><p>so <math>{TEX}</math> &amp; <script type='math/tex'>x</script>".encode("utf-16"),
]
WORDS = [
    b"<div>",
    b"<math>",
    b"</p>",
    b"<!--",
    b"<script>",
    b"&#",
    b"<table>",
    b"<a href=",
    b"\xff",
    b"<ul><li>",
    b"<svg>",
]


def test_it_survives_whatever_html():
    def parse(data: bytes) -> None:
        html = decode(data)
        license_of(html)
        try:
            text = html_to_text(html)
        except RecursionError:
            return
        text.encode()
        assert "\n\n\n" not in text and text == text.strip()

    survive(parse, mutants(SEEDS, words=WORDS))


# --- real pages ---

FIRST = {
    "common_crawl_paragraph1": "• 飞鱼app破解版（苹果版）",
    "common_crawl_paragraph2": "福建开创食品安全监管工作新局面",
    "common_crawl_paragraph3": "Серада 22 сакавіка 2023 г.",
    "common_crawl_paragraph4": "配电柜厂家",
    "common_crawl_paragraph5": "Vetlanda Svarv & Fräs",
    "wikipedia_paragraph1": "Language model",
    "wikipedia_paragraph2": "Biology",
    "wikipedia_paragraph3": "Earth's crust",
    "wikipedia_paragraph4": "Jair Bolsonaro",
    "wikipedia_paragraph5": "Gabbro",
}
HELD = {  # a sentence, a formula, a list, a table, an alt text
    "common_crawl_paragraph1": "3、各种不同的唯美游戏地图，供玩家选择体验，滚动小球跳跃，克服障碍。",
    "common_crawl_paragraph5": "Kunder finns främst inom verkstadsindustri, skogsbruk och lantbruk.",
    "wikipedia_paragraph1": "assigns a probability $P(w_{1},\\ldots ,w_{m})$ to the whole sequence.",
    "wikipedia_paragraph2": "Biology is the science of life. It spans multiple levels from biomolecules and cells",
    "wikipedia_paragraph3": "because the upper mantle is made of peridotite",
    "wikipedia_paragraph4": "Vice President\t\tHamilton Mourão\nPreceded by\t\tMichel Temer",
    "wikipedia_paragraph5": "slow cooling of magnesium-rich and iron-rich magma",
}


@pytest.mark.parametrize("name", FIRST)
def test_a_real_page_reads_as_its_readers_see_it(name):
    file = SHARED / "realdata" / "html" / f"mlfoundations__dclm__{name}.html"
    if not file.is_file():
        pytest.skip(f"needs {file}")
    text = html_to_text(decode(file.read_bytes()))
    assert text.split("\n")[0] == FIRST[name]
    assert HELD.get(name, "") in text
    for markup in ("</", "<p", "<area", "displaystyle", "&amp;", "&nbsp;", "function(", "{margin"):
        assert markup not in text
