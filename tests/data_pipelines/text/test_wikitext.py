"""Wikitext becomes text: each mark by hand, what is unbalanced takes nothing with it, in linear time, whatever comes."""

import time

import pytest

from data_pipelines.text.wikitext import cited_urls, plain_text
from data_pipelines.text.wikitext_names import DISAMBIGUATION, REDIRECT, VANISHING
from data_pipelines.text.wikitext_templates import TEXT, arguments
from tests.data_pipelines.fuzz import mutants, survive


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        # links
        ("The [[dog]]s of [[London|the capital]].", "The dogs of the capital."),
        ("[[File:A.jpg|thumb|A [[dog]] and [[cat|its {{nowrap|cat}}]]]]Text.", "Text."),
        ("[[Image:A.jpg]][[Datei:B.png|mini|[[x]]]][[Файл:C.jpg|мини]]Text.", "Text."),
        ("[[Category:Dogs|*]][[Категория:Кучета]][[de:Hund]][[zh-min-nan:Káu]]Text.", "Text."),
        ("[[:Category:Dogs]], [[:de:Hund]], [[wikt:dog|dog]] and [[Portal:Dogs]]", "Category:Dogs, de:Hund, dog and Portal:Dogs"),
        ("[[Dog#History|]] and [[a|b|c]]", "Dog#History and b|c"),
        ("See [http://a.org/x?y=1 the site][http://b.org] and [//c.org/ that].", "See the site and that."),
        ("See [https://a.org the ''site'' of [[dogs]]].", "See the site of dogs."),
        # templates
        ("It is {{convert|5|km|mi}} long and {{cvt|3|to|4.5|km2}} large.", "It is 5 km long and 3 to 4.5 km² large."),
        ("{{convert|10|-|20|C|F}}, {{convert|6|x|4|ft|m|abbr=on}}, {{convert|5+1/2|in}}", "10–20 °C, 6 × 4 ft, 5 1/2 in"),
        ("le {{lang|fr|mot}} and {{langue|it|parola}} ({{lang-de|Wort}})", "le mot and parola (Wort)"),
        ("{{nihongo|'''Mount Fuji'''|富士山|Fujisan}} and {{nihongo||日本}}", "Mount Fuji (富士山, Fujisan) and 日本"),
        ("{{frac|1|2}}, {{frac|3}}, {{frac|2|3|4}}", "1/2, 1/3, 2 3/4"),
        ("1990{{ndash}}95{{snd}}and{{nbsp}}so{{mdash}}on{{'}}s", "1990–95 – and so—on’s"),
        ("{{As of|2015}} and {{as of|2016|3|lc=y}}", "As of 2015 and as of March 2016"),
        ("{{IPA|/a/}} {{IPA-fr|a}} {{IPAc-en|a|b}}x", "/a/ [a] x"),
        ("{{Val|1.5|e=3|u=m}}, {{unité|12|km|2}}, {{s|XIX}}, {{XXe siècle}}", "1.5×10^3 m, 12 km2, XIXe siècle, XXe siècle"),
        ('Er sagte: {{"|Ja.}} {{formatnum:1234}} {{PAGENAME}}', "Er sagte: „Ja.“ 1234 Title"),
        ("{{nowrap|{{lang|la|[[a|b]] {{nobr|c}}}}}}", "b c"),
        ("{{nowrap|1=a = b}}{{quote|text=c}}", "a = bc"),
        ("A{{Unknown|x={{convert|1|m}}|[[a|b]]|{{{1|}}}}} b {{{1|default}}}.", "A b."),
        ("{{Infobox\n| a = {{b|c}}\n| d = [[File:x.jpg]]\n}}\n'''A''' is b.", "A is b."),
        ("'''A''' ({{lang-xx}}, {{audio|x.ogg}}; {{unknown}}) is ( {{u2}} ; 1900) b ,{{u3}} c {{u4}}.", "A is (1900) b, c."),
        ("Call malloc() and free ().", "Call malloc() and free."),
        # references and other tags
        ("A<ref>[http://x.org X]{{cite|a}}</ref> b<ref name=\"n\" /> c<ref name=n>d</ref>.", "A b c."),
        ("A<REF>x</Ref> b<ref group=a>y</ref > c", "A b c"),
        ("A<!-- b [[c]] --> d <!-- e", "A d e"),
        ("H<sub>2</sub>O, 10<sup>3</sup>, <span style=\"a\">b</span><br/>c &amp; d&nbsp;e &lt;f&gt;", "H2O, 103, b\nc & d e <f>"),
        ("<nowiki>[[a]] '''b'''</nowiki> <code>x = [1][[2]]</code>", "[[a]] '''b''' x = [1][[2]]"),
        ("a<pre>\n  b {{c}}\n    d\n</pre>e", "a\n\n  b {{c}}\n    d\n\ne"),
        ("<source lang=c>\nint a[[1]];\n</source>", "int a[[1]];"),
        ("if <math>x < \\frac{{a}}{b}</math> and\n:<math display=\"block\">\ny\n</math>", "if $x < \\frac{{a}}{b}$ and\n$$y$$"),
        ("A<gallery>\nFile:x.jpg|[[b]]\n</gallery>b<references><ref name=a>c</ref></references>", "Ab"),
        ("<blockquote>a</blockquote><center>b</center><poem>c\nd</poem>", "a\nbc\nd"),
        # tables
        ("a\n{| class=x\n! b\n|-\n| c || [[d]]\n{| \n| e\n|}\n|}\nf", "a\n\nf"),
        ("a\n:{|\n| b {{x|\n}}\n|}\nf <table><tr><td>b</table>g", "a\n\nf\ng"),
        ("a\n|- \n| leftover cell\n! a !! b\n! It is.", "a\n! It is."),
        # lines
        ("== A ==\nb\n=== C ===\nd\n== E ==\n==F==\ng", "A\n\nb\n\nC\n\nd\n\nF\n\ng"),
        ("* a\n** b\n# c\n: d\n; e : f\n*\n----\n#:* g", "- a\n- b\n- c\nd\ne : f\n- g"),
        ("* {{cite|a}}. First of them.\n* .at and .de", "- First of them.\n- .at and .de"),
        ("''a'' '''b''' '''''c''''' l''''d'''", "a b c l'd"),
        ("L'''Assemblea''.\ncon l'''[[Station|Ostbahnhof]]'', '''b'''", "L'Assemblea.\ncon l'Ostbahnhof, b"),
        ("le '''Train''' de l'''Orient''\n'''a'' b\nthe ''Iliad'''s end", "le Train de l'Orient\na b\nthe Iliad's end"),
        ("* ''{{FRO}}'' (DEN), '''{{x}}''' b\n''''Tis''' c", "- (DEN), b\n'Tis c"),
        ("__NOTOC__a __init__ b __KEIN_INHALTSVERZEICHNIS__ ~~~~", "a __init__ b"),
        ("a\n\n\n\n\nb   c\t\nd", "a\n\nb c\nd"),
        ("На -{sr-ec:реци; sr-el:reci}- и -{Тако: ово}- -{H|x:a}-даље", "На реци и Тако: ово даље"),
        ("= 1 =\n==\na = b\n===", "1\n\na = b"),
        ("== A ==\nb\n== See also ==\n* c\n=== d ===\n* e\n== References ==\n<references/>\n== F ==\ng", "A\n\nb\n\nF\n\ng"),
    ],
)  # fmt: skip
def test_each_mark_shows_what_a_reader_of_the_page_sees(wikitext, text):
    assert plain_text(wikitext, "Title") == text


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("{{Infobox open\nThe text.\n\nMore [[text]].", "Infobox open\nThe text.\n\nMore text."),
        ("A [[link and {{nowrap|this}}.\n\nMore.", "A link and this.\n\nMore."),
        ("A [[link {{open]] and on.", "A link open and on."),
        ("{| class=x\n| cell\n\nThe text.", "The text."),
        ("A }} ]] b\n|}\nc", "A b\nc"),
        ("A<ref>open B.\n\nC<ref>d</ref> e.", "Aopen B.\n\nC e."),
        ("A<ref name=x>open B<ref name=y/> C.\n\nD.", "Aopen B C.\n\nD."),
        ("A <nowiki> b <math> c <!-- d", "A b c d"),
        ("A [http://x.org open\nb", "A open\nb"),
        ("A <ref b", "A"),
        ("A [{{x}}[b]{{x}}] c", "A b c"),
    ],
)
def test_an_opening_mark_that_nothing_closes_takes_no_text_with_it(wikitext, text):
    assert plain_text(wikitext) == text


def test_sections_that_only_cite_go_by_the_words_of_their_language():
    es = "Texto.\n== Literatura ==\nCervantes escribió mucho.\n== Véase también ==\n* [[x]]\n== Historia ==\nFin."
    assert plain_text(es, language="es") == "Texto.\n\nLiteratura\n\nCervantes escribió mucho.\n\nHistoria\n\nFin."
    de = "Text.\n== Literatur ==\n* Ein Buch.\n== Einzelnachweise ==\n<references />"
    assert plain_text(de, language="de") == "Text."
    assert plain_text(de, language="es").startswith("Text.\n\nLiteratur\n\n- Ein Buch.")
    inner = "Text.\n== Kultur ==\n=== Literatur ===\nKafka lebte hier."
    assert plain_text(inner, language="de") == "Text.\n\nKultur\n\nLiteratur\n\nKafka lebte hier."


def test_prefixes_of_other_wikis_are_those_of_the_dump():
    text = "[[Gambar:A.jpg|jmpl|x]]A."
    assert plain_text(text) == "jmpl|xA." and plain_text(text, vanishing=VANISHING | {"gambar"}) == "A."


def test_redirects_and_disambiguations_are_known_by_the_words_of_20_languages():
    for word in ("REDIRECT", "Redirect", "WEITERLEITUNG", "перенаправление", "виж", "RINVIA", "PATRZ", "Преусмери"):
        assert REDIRECT.match(f" \n# {word} : [[x]]"), word
    assert not REDIRECT.match("#redirecting is hard") and not REDIRECT.match("A #REDIRECT [[x]]")
    for name in (
        "disambiguation",
        "Dab",
        "Begriffsklärung",
        "homonymie",
        "rozcestník",
        "Неоднозначность",
        "Egyért",
        "dp",
    ):
        assert DISAMBIGUATION.search(f"x\n{{{{{name}|a}}}}"), name
    assert DISAMBIGUATION.search("{{airport disambiguation}}") and DISAMBIGUATION.search("{{dab\n}}")
    for name in ("disambiguation needed", "Begriffsklärungshinweis", "other uses|x (disambiguation)", "dpx"):
        assert not DISAMBIGUATION.search(f"{{{{{name}}}}}"), name


def test_urls_are_kept_aside_once_each_in_their_order():
    text = "[http://a.org A], <ref>{{cite|url=https://b.org/x?y=1|t=c}} http://c.org.</ref> [http://a.org]"
    assert cited_urls(text) == ["http://a.org", "https://b.org/x?y=1", "http://c.org"]
    assert len(cited_urls(" ".join(f"http://a.org/{i}" for i in range(2000)))) == 1000


def test_parameters_are_told_from_their_names():
    assert arguments("t|a| b =c|2=d|http://x?y=1|e ") == (["a", "d", "http://x?y=1", "e"], {"b": "c"})
    assert len(arguments("t" + "|a" * 1000)[0]) <= 100


def test_half_a_character_and_the_place_marks_of_our_own_do_not_come_through():
    assert plain_text("a\ud800b \x000\x00 <nowiki>c</nowiki> \x001\x00") == "ab 0 c 1"
    assert plain_text("a\r\nb\ufeff\u200b\xad\xa0c") == "a\nb c"


OPENERS = [
    "[[",
    "{{",
    "<ref>",
    "\n{|",
    "<!--",
    "<nowiki>",
    "<math>",
    "{{nowrap|",
    "[[a|",
    "[[File:a|",
    "{{[[",
    "\n{|{{[[",
]
OPENERS += [
    "[http://a ",
    "''",
    "-{a",
    "(",
    "( ,",
    "<",
    "&",
    "\n==",
    "{{{",
    "__A",
    "<ref><ref/>",
    "{{convert|1|",
    "\x00",
    " )",
]


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("closer", ["", "]]", "}}", "\n|}", "</ref>", "-->", ")"])
def test_time_grows_with_the_length_and_no_faster(opener, closer):
    """4 times the input takes about 4 times as long; 16 times would be quadratic. Best of three: others use the machine."""

    def seconds(length: int) -> float:
        text = opener * (length // len(opener)) + closer * (length // max(1, len(closer)))
        best = 9.0
        for _ in range(3):
            start = time.process_time()
            plain_text(text)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(40_000) <= 10 * seconds(10_000) + 0.02


def test_a_quadratic_search_would_be_noticed():
    def slow(text: str) -> int:
        return sum(text.find("]]", i) < 0 for i in range(len(text)))

    start = time.process_time()
    slow("[" * 10_000)
    short = time.process_time() - start
    start = time.process_time()
    slow("[" * 40_000)
    assert time.process_time() - start > 10 * short or short < 0.001


def test_deep_templates_do_not_copy_their_text_at_each_level():
    text = "{{nowrap|" * 20_000 + "x" * 200_000 + "}}" * 20_000
    start = time.process_time()
    assert plain_text(text + " end.") == "end."
    assert time.process_time() - start < 5
    text = "{{nowrap|" * 20_000 + "x" * 10_000 + "}}" * 20_000  # each level is short enough to be shown
    assert plain_text(text + " end.") == "end."
    assert time.process_time() - start < 5
    assert plain_text("{{nowrap|" * 30 + "x" + "}}" * 30) == "x"


def test_a_hundred_tables_closed_by_templates_leave_the_text_between_them():
    text = "{| class=x {{y}}\n| a\n{{end}}\nSee [[b|it]] at {{convert|1|m}}.\n" * 100
    assert plain_text(text) == "\n".join(["See it at 1 m."] * 100).replace("\n", "\n\n")


SEED = """{{Infobox|a={{convert|5|km|mi}}|b=[[File:x.jpg|thumb|c [[d]]]]}}
'''Orvel''' ({{lang-de|Orwel}}, {{nihongo|a|b|c}}) is a [[lake|''lake'']]<ref name=a>{{cite|url=http://x.org|t=[y]}}</ref>.
== See [http://z.org too] ==
{| class="x"
! a !! b
|-
| <math>x_{{1}}</math> || -{a;b}- {{val|1|e=3}} {{frac|1|2|3}} {{as of|2020|1|post=,}}
|}
* <nowiki>[[x]]</nowiki> &amp; <code>y</code> {{unité|1|m||s|-2}} {{date|1|mai|2000}} {{s|V}} __TOC__
<gallery>a|b</gallery> <!-- c --> {{start date|1999|12|3}} {{ship|HMS|A|1}} {{circa|3}} {{"|q}} ~~~~
""".encode()
WORDS = "{{ }} [[ ]] <ref> </ref> {| |} ''' <nowiki> <!-- --> | \n== = <math> </math> <ref/>".split(" ")
WORDS += ["{{convert|", "{{val|", "{{frac|", "{{as of|", "\n|}", "\n{|", "{{{", "}}}"]


def test_2000_mutants_do_no_harm():
    def parse(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        shown = plain_text(text, "T")
        cited_urls(text)
        shown.encode()
        assert "\x00" not in shown and shown == shown.strip()

    survive(parse, mutants([SEED, SEED[:300], b"{{" + SEED], words=[word.encode() for word in WORDS]))


def test_known_templates_are_spelled_as_names_are_looked_up():
    assert all(name == name.lower().replace("_", " ").strip() for name in TEXT)
