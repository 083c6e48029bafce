r"""LaTeX: macros expand with their arguments as TeX would, comments go as TeX ignores them, and nothing runs away.

Expectations are written by hand from TeX's rules (The TeXbook, chapters 7, 8 and 20) and LaTeX's."""

import re

import pytest

from data_pipelines.text.latex import expand
from data_pipelines.text.latex_input import TooMuch
from data_pipelines.text.latex_macros import read_definition
from data_pipelines.text.latex_text import normal_characters, paper_body, strip_comments
from tests.data_pipelines.fuzz import mutants, survive

LAUGHS = r"\def\a{ha}" + "".join(
    rf"\def\{b}{{\{a}\{a}\{a}\{a}\{a}\{a}\{a}\{a}\{a}\{a}}}" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "source, expected",
    [
        (r"\newcommand{\x}{y}a\x b", "ayb"),
        (r"\newcommand\x{y}\x{} b", "y b"),  # no braces around the name; {} was there to keep the blank
        (r"\newcommand*{\x}[1]{<#1>}\x{a}\x b\x{}", "<a><b><>"),
        (r"\newcommand{\x}[2]{#2#1#2}\x{a}{b}", "bab"),
        (r"\newcommand{\x}[2][d]{#1-#2}\x{a} \x[e]{a} \x[{]}]{a}", "d-a e-a {]}-a"),
        ("\\newcommand{\\x}[1]{one\n  #1\n}\\x{two}", "one\n  two\n"),  # a body of several lines
        (r"\newcommand{\x}[1]{#1}\newcommand{\y}[1]{\x{#1}!}\y{\x{\y{a}}}", "a!!"),
        (r"\newcommand{\x}[1]{<#1>}\newcommand{\y}{\x}\y{a}", "<a>"),  # the argument stands behind the outer macro
        (r"\newcommand{\x}{a}\renewcommand{\x}{b}\x", "b"),
        (r"\newcommand{\x}{a}\x\renewcommand{\x}{b}\x", "ab"),
        (r"\newcommand{\x}{a}\providecommand{\x}{b}\x\providecommand{\z}{c}\z", "ac"),
        (
            r"\DeclareMathOperator{\tr}{tr}\DeclareMathOperator*{\am}{arg\,min}\tr\am",
            r"\operatorname{tr}\operatorname*{arg\,min}",
        ),
        (r"\def\x#1#2{#2#1}\x ab\x{cd}e", "baecd"),
        (r"\def\bra<#1|{[#1]}\bra<a| \bra<{b|c}|", "[a] [b|c]"),
        (r"\def\x#1\end#2.{#1,#2}\x a\end b.", "a,b"),
        (r"\long\def\x{y}\global\let\z=\x\x\z", "yy"),
        (r"\let\old\x\def\x{a}\let\z\x\def\x{b}\z\x", "ab"),
        (r"\newcommand{\x}{a}\let\old\x\renewcommand{\x}{\old b}\x", "ab"),
        (r"\def\x{a}\edef\x{\x b}\x", "ab"),
        (r"\let\x\relax a\x b", "ab"),
        (r"\newenvironment{e}[1]{\begin{quote}#1: }{\end{quote}}\begin{e}{a}b\end{e}", r"\begin{quote}a: b\end{quote}"),
        (r"\newenvironment{e}[1][d]{(#1}{)}\begin{e}b\end{e}\begin{e}[c]b\end{e}", "(db)(cb)"),
        (
            "a\n\\newcommand{\\x}{y}\nb",
            "a\nb",
        ),  # a definition's own line leaves no empty one: that would be a paragraph
        ("a\n\n\\newcommand{\\x}{y}\n\nb\\x\n\nc", "a\n\n\nby\n\nc"),
    ],
)
def test_macros_expand_with_their_arguments(source, expected):
    assert expand(source) == expected


@pytest.mark.parametrize(
    "source, expected",
    [
        (r"\def\x{\alpha}\x b", r"\alpha b"),
        (r"\def\x{b}\alpha\x", r"\alpha b"),
        (r"\def\x#1{\mathbf#1}\x b", r"\mathbf b"),
        (r"\def\x#1{#1s}\x\alpha", r"\alpha s"),
        (r"\def\x#1{\\#1}\x b", r"\\b"),  # \\ is no word
        (r"\def\x{ab}\hat\x+\frac\x2 \hat{\x}", r"\hat{ab}+\frac{ab}2 \hat{ab}"),
        (r"\def\x{\beta}\hat\x", r"\hat\beta"),
        ("\\def\\x{y}\\x\n\nb \\x\nb", "y\n\nb yb"),  # TeX skips blanks and a newline behind a word, no empty line
        ("\\def\\be{\\begin{equation}}\n\\be\nE\n", "\\begin{equation}\nE\n"),
        ("\\def\\x{y}a \\x\n\\begin{quote}", "a y\n\\begin{quote}"),  # it would change nothing there
        (r"\newcommand{\x}{Y\xspace}\x is \x, \x\footnote{a} \x$b$ (\x)", r"Y is Y, Y\footnote{a} Y $b$ (Y)"),
        (r"\def\x{y}\x\ b", r"y b"),
    ],
)
def test_what_stands_side_by_side_stays_what_it_was(source, expected):
    assert expand(source) == expected


@pytest.mark.parametrize(
    "untouched",
    [
        r"\begin{verbatim}\x % \end{document}\end{verbatim}",
        r"\begin{lstlisting}[language=C]\x\end{lstlisting}",
        r"\begin{minted}{c}\x\end{minted}",
        r"\verb|\x|\verb*+\x+\lstinline[a=b]!\x!",
        r"\section{a}\unknown{b}[c] \xx \x@y",
        r"\def\y{\@ifnextchar[{\z}{\x}}\y",  # internal
        r"\newcommand{\y}{\ifx\x\undefined a\else b\fi}\y",  # a program
        r"\def\y #1 {a}\y b ",  # a blank as delimiter
        r"\renewcommand{\section}[1]{\x}\section{a}",  # the paper's structure
        r"\newcommand{\y",  # without an end
    ],
)
def test_what_is_no_abbreviation_stays(untouched):
    assert expand(r"\def\x{expanded}" + untouched) == untouched


def test_a_macro_without_its_arguments_stays():
    source = r"\newcommand{\x}[2]{#1#2}\newcommand{\y}{\x}\def\z<#1>{#1}"
    assert expand(source + r"{\x{a}}{\y b}\z a") == r"{\x{a}}{\x{b}}\z a"


def test_verbatim_environments_of_the_papers_own_are_known():
    source = r"\lstnewenvironment{code}{}{}\def\x{y}\begin{code}\x%\end{code}\x"
    assert expand(strip_comments(source)).endswith(r"\begin{code}\x%\end{code}y")


@pytest.mark.parametrize(
    "source, expected",
    [
        ("a % b\nc", "a c"),
        ("a% b\n   c", "ac"),
        ("a% b\n % c\n  d", "ad"),
        ("a\n  % b\n  c", "a\n  c"),
        ("a% b\n\nc", "a\n\nc"),  # the paragraph still ends
        (r"50\% of", r"50\% of"),
        ("a\\\\% b\nc", "a\\\\c"),
        ("a\\\\\\% b\nc", "a\\\\\\% b\nc"),
        ("\\alpha% b\nc", "\\alpha c"),
        ("% a\n% b\nc", "c"),
        ("a % b", "a "),
        ("%", ""),
        (r"\verb|%| \url{a%20b} \href{c%d}{e}" + "% f\ng", r"\verb|%| \url{a%20b} \href{c%d}{e}g"),
        ("\\begin{verbatim}\n% a\n\\end{verbatim} % b\n", "\\begin{verbatim}\n% a\n\\end{verbatim} "),
        ("\\begin{verbatim} % never closed\na", "\\begin{verbatim} a"),
    ],
)
def test_comments_go_as_tex_ignores_them(source, expected):
    assert strip_comments(source) == expected


def test_the_mistake_of_eating_the_character_before_a_comment_would_show():
    source = "the energy% of course\nis 50\\% lower"
    eaten = re.sub(r"[^\\]%.+$", "", source, flags=re.M)  # the expression that RedPajama's and its copies' cleaners use
    assert eaten == "the energ\nis 50\\% lower"
    assert strip_comments(source) == "the energyis 50\\% lower"


@pytest.mark.parametrize(
    "source, expected",
    [
        (r"a\iffalse b\iff c\ifmmode d\fi\fi e", "ae"),
        (r"a\iffalse b\else c\fi d", "acd"),
        (r"a\iftrue b\else c\fi d", "abd"),
        (r"\newif\ifd a\ifd b\fi\dtrue\ifd c\fi\dfalse\ifd d\fi", "ac"),
        (r"a\iffalse b\figref c", r"a\iffalse b\figref c"),  # \figref is no \fi
        (r"a\begin{comment}b\end{comment}c", "ac"),
        (r"a\end{document}b", "a"),
        (r"a\endinput b", "a"),
    ],
)
def test_what_is_never_shown_goes(source, expected):
    assert expand(source) == expected


def test_files_are_read_where_they_are_named():
    files = {
        "a.tex": "\\def\\x{A}[\\input b.tex ]\n",
        "b.tex": "b\\endinput never",
        "c.tex": "\\input{a}\\input{c}",
        "s.sty": r"\newcommand{\y}{Y}",
        "f/g.tex": "G",
    }

    def load(name, suffix):
        path = name if name in files else name + suffix
        return (path, files[path]) if path in files else None

    assert expand(r"\usepackage{s,amsmath}\input{a}\x\y", load) == "\\usepackage{s,amsmath}[b ]\nAY"
    assert expand(r"\input{c}.", load) == "[b ]\n."  # a file that reads itself is read once
    assert expand(r"a\input{nowhere}b\import{f/}{g}", load) == "abG"


@pytest.mark.parametrize(
    "source, expected",
    [
        (r"\def\a{b\a}x\a y", r"\def\a{b\a}x\a y"),
        (r"\def\a{\b}\def\b{\a}x\a y", None),
        (r"\def\a{\a\a}x\a y", r"\def\a{\a\a}x\a y"),
        (r"\def\a#1{\a{#1#1}}x\a y", r"\def\a#1{\a{#1#1}}x\a y"),
    ],
)
def test_a_macro_without_end_stays_as_it_is(source, expected):
    text = expand(source)
    assert text == expected if expected else text.startswith(r"\def") and len(text) < 100


def test_growth_without_a_loop_ends_in_an_error():
    with pytest.raises(TooMuch):
        expand(LAUGHS + r"\i")


@pytest.mark.parametrize(
    "bomb",
    [
        "{" * 10**6,
        r"\x{" * 10**5,
        r"\newcommand{" * 10**5,
        r"\begin{verbatim}" * 10**5,
        r"\iffalse" * 10**5,
        r"\verb|" * 10**5,
        r"\x[" * 10**5,
        " " * 10**6 + "%" + " " * 10**6,
        "\n%" * 10**6,
        r"\def\x#1." * 10**5,
        r"\section{" * 10**5,
        r"\begin{thebibliography}" * 10**5,
        r"\printbibliography[" * 10**5,
        r"\title{" * 10**5,
        r"\y a" * 10**5,
        r"\begin{comment}" * 10**5,
        r"\input{a" * 10**5,
        r"\hat\y" * 10**5,
    ],
)
def test_a_million_of_anything_is_read_in_linear_time(bomb):
    """Ten times as much takes seconds at most: what is quadratic takes hours."""
    source = r"\newcommand{\x}[2][a]{#1#2}\def\y#1;{#1}\begin{document}\section{a}" + bomb
    try:
        text = expand(strip_comments(source))
    except TooMuch:
        return
    assert paper_body(text) is not None


def test_a_paper_is_cut_from_its_first_section_to_its_bibliography():
    paper = (
        r"\title{T}\begin{document}\author{A}\begin{abstract}B\end{abstract}front\section{One}a\cite{x}"
        "\n\n\n\n"
        r"\section*{References}\bibliographystyle{plain}\bibliography{x}"
        "\n"
        r"\begin{thebibliography}{9}\bibitem{x} X\end{thebibliography}\appendix\section{Two}b"
    )
    assert paper_body(paper) == "\\section{One}a\\cite{x}\n\n\\appendix\\section{Two}b"
    whole = "\\title{T}\n\n\\begin{abstract}B\\end{abstract}\n\n\\section{One}a\\cite{x}\n\n\\appendix\\section{Two}b"
    assert paper_body(paper, abstract=True) == whole


def test_a_letter_without_sections_starts_after_its_abstract():
    front = r"\begin{document}\title{T}\maketitle\begin{abstract}B\end{abstract}\pacs{1.2}"
    assert paper_body(front + "the letter") == "the letter"
    letter = "the letter is longer than the thanks\\section*{Acknowledgments}to you"
    assert paper_body(front + letter) == letter
    assert paper_body(front + r"x\section{One}" + "y" * 50) == r"\section{One}" + "y" * 50
    assert paper_body("\\begin {document}x\\section{One}y") == r"\section{One}y"
    assert paper_body(r"\begin{document}nothing tells where it starts") is None


def test_plain_tex_papers_start_and_end_by_their_own_formats_words():
    ams = (
        r"\topmatter\title T\endtitle\endtopmatter\document\head One\endhead text\Refs\ref a\endref\endRefs\enddocument"
    )
    assert paper_body(ams) == r"\head One\endhead text\enddocument"
    assert paper_body(r"\input harvmac\Title{T}{A}\def\section#1{x}\newsec{One}text") == r"\newsec{One}text"


def test_an_abstract_behind_the_first_heading_goes_too():
    paper = r"\begin{document}\section*{The title}\begin{abstract}B\end{abstract}" + "text " * 9
    assert paper_body(paper) == r"\section*{The title}" + ("text " * 9).strip()


def test_characters_are_those_of_text():
    assert normal_characters("a\r\nb\rc\0\x1a\td\x0ce") == "a\nb\nc\td\n\ne"


def test_definitions_are_read_where_they_stand():
    found = read_definition("newcommand", r"{\x}[2][d]{#1#2} rest", 0)
    assert found is not None and found.end == len(r"{\x}[2][d]{#1#2}")
    assert found.macro is not None and found.macro.fill(["a", r"b"]) == "ab" and found.macro.default == "d"
    assert read_definition("newcommand", r"{\x}[2][d]{#1#2", 0) is None
    bad = read_definition("newcommand", r"{\x}[1]{#2}", 0)
    assert bad is not None and bad.macro is None


WORDS = [
    *(
        rb"\newcommand{\a}[1]{",
        rb"\def\a#1{",
        rb"\a",
        rb"\a\a",
        rb"{",
        rb"}",
        rb"[",
        rb"]",
        rb"#1",
        rb"##1",
        rb"%",
        b"\n\n",
    ),
    *(
        rb"\begin{verbatim}",
        rb"\end{verbatim}",
        rb"\iffalse",
        rb"\else",
        rb"\fi",
        rb"\newif\ifa",
        rb"\verb|",
        rb"\let\a\b",
    ),
    *(
        rb"\input{a}",
        rb"\begin{document}",
        rb"\end{document}",
        rb"\section{",
        rb"\begin{abstract}",
        rb"\newenvironment{e}",
    ),
    *(
        rb"\begin{e}",
        rb"\end{e}",
        rb"\bibliography{",
        rb"\begin{thebibliography}",
        rb"\xspace",
        rb"\edef\a{\a}",
        b"\\",
        b"\\\\",
    ),
]
SEEDS = [
    rb"\newcommand{\a}[2][x]{\b{#1}#2}\def\b#1{<#1>}\newif\ifc\begin{document}\begin{abstract}q\end{abstract}"
    rb"\section{One}\a{1} \a[y]{2}% no" + b"\n" + rb"\ifc a\else\b\a3\fi\begin{verbatim}%\a\end{verbatim}\verb|\a|"
    rb"\begin{thebibliography}{9}\end{thebibliography}\end{document}",
    rb"\newenvironment{e}[1]{\begin{center}#1}{\end{center}}\def\p<#1|#2>{#2#1}\let\q=\p\edef\r{\q<a|b>}\begin{document}"
    rb"\maketitle \begin{e}{\r}\p<c|d>\end{e}\input{a}\include{b}\iffalse x\fi\hat\r\xspace \bibliography{c}\end{document}",
]


def test_no_spoilt_paper_takes_the_parser_down():
    def parse(data: bytes) -> None:
        text = strip_comments(normal_characters(data.decode("latin-1")))
        try:
            whole = expand(text, lambda name, suffix: ("a.tex", text[:100]) if name == "a" else None)
        except TooMuch:
            return
        body = paper_body(whole, abstract=True)
        assert body is None or "\0" not in body

    survive(parse, mutants(SEEDS, words=WORDS))
