"""Real Wikipedia dumps in 19 languages: first sentences by hand, counts of pages, and no markup left in any article."""

import itertools
import re

import pytest

from tests.conftest import SHARED
from tests.data_pipelines.sources.test_wikipedia import read

REAL = SHARED / "realdata" / "wikipedia"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not here: real dumps exist only on some machines")


def real(name: str):
    """The documents and the account of one dump."""
    [path] = [path for path in REAL.iterdir() if name in path.name]
    return read(path, min_characters=1)


@pytest.mark.parametrize(
    ("name", "number", "title", "start"),
    [
        (
            "bgwiki", "18543", "Берлин",
            "Берлѝн (Berlin [bɛɐ̯ˈliːn]) е столицата и една от 16-те провинции на Германия. С население от 3 466 164 "
            "души (към 2014 г.) и площ от 892 km² Берлин е най-населеният и най-голям по размери град в страната."
        ),
        (
            "cawiki", "27631", "Berlín",
            "Berlín (en alemany: Berlin [bɛɐ̯.ˈliːn ]) és la capital i la ciutat més gran d'Alemanya, amb 3.499.879 "
            "habitants (2011), anomenats berlinesos."
        ),
        (
            "cswiki", "1366", "Berlín",
            "Berlín (německy Berlin) je hlavní město Německa a zároveň i spolková země Spolkové republiky Německo."
        ),
        (
            "dawiki", "3364", "Berlin",
            "Berlin (Tysk [bɛʁˈliːn]) er hovedstaden i Tyskland og hjemsted for den tyske regering og parlament."
        ),
        (
            "dewiki", "182", "Arthur Schopenhauer",
            "Arthur Schopenhauer (* 22. Februar 1788 in Danzig; † 21. September 1860 in Frankfurt am Main) war ein "
            "deutscher Philosoph und Hochschullehrer.\n\nSchopenhauer entwarf eine Lehre"
        ),
        (
            "eswiki", "14540", "Berlín",
            "Berlín (en alemán: Berlin, [bɛɐ̯ˈliːn]) es la capital de Alemania y uno de los dieciséis estados federados "
            "alemanes."
        ),
        (
            "frwiki", "3", "Antoine Meillet",
            "Paul Jules Antoine Meillet, né le 11 novembre 1866 à Moulins (Allier) et mort le 21 septembre 1936 à "
            "Châteaumeillant (Cher), est le principal linguiste français des premières décennies du XXe siècle. Il est "
        ),
        (
            "hrwiki", "19980", "Berlin",
            "Berlin je s više od 3,5 milijuna stanovnika najveći i glavni grad Njemačke i najveći grad Europske unije."
        ),
        (
            "itwiki", "808", "Berlino",
            "Berlino (AFI: /berˈlino/; in tedesco: Berlin, [bɛɐ̪ ˈliːn]) è la capitale e maggiore città della Germania."
        ),
        (
            "dbpedia__nlwiki", "34358", "Arthur Schopenhauer",
            "Arthur Schopenhauer (Danzig, 22 februari 1788 - Frankfurt, 21 september 1860) was een Duits filosoof die "
            "een uitgesproken pessimistische wereldbeschouwing formuleerde."
        ),
        (
            "plwiki", "551", "Berlin",
            "Berlin – stolica, największe miasto Niemiec i zarazem kraj związkowy. Zajmuje powierzchnię ok. 892 km² i "
            "zamieszkuje go około 3,7 mln osób."
        ),
        (
            "ptwiki", "488", "Berlim",
            "Berlim (Berlin) é a capital e um dos dezesseis estados da Alemanha. Com uma população de 3,5 milhões dentro "
            "de limites da cidade,"
        ),
        (
            "rowiki", "495", "Berlin",
            "Berlin este capitala Germaniei, fiind cel mai mare oraș al țării cu aproximativ 3,4 milioane de locuitori "
            "și acoperind o suprafață de aproximativ 892 km²."
        ),
        (
            "ruwiki", "78", "Берлин",
            "Берли́н (Berlin [bɛɐ̯ˈliːn]) — столица и крупнейший город Германии, первый по населению и четвёртый по "
            "площади город Евросоюза.\n\nЯвляется одной из 16 земель в составе ФРГ."
        ),
        ("slwiki", "11255", "Berlin", "Berlin [berlín] je glavno mesto Nemčije in ena od 16 nemških zveznih dežel."),
        (
            "svwiki", "7212", "Berlin",
            "Berlin är huvudstad i Tyskland och dess folkrikaste stad med 3,7 miljoner invånare (2017)."
        ),
        (
            "fiwiki", "6344", "Berliini",
            "Berliini (Berlin, [bɛɐˈliːn]) on Saksan pääkaupunki ja yksi Saksan osavaltioista."
        ),
        (
            "jawiki", "1974854", "ベルリン",
            "ベルリン州（ベルリンしゅう、Land Berlin）、通称ベルリン（Berlin、[bɛɐ̯ˈliːn]、伯林）は、ドイツの首都。"
        ),
        ("arwiki", "1343", "برلين", "برلين Berlin هي العاصمة الفيدرالية لجمهورية ألمانيا الاتحادية،"),
        (
            "nlwiki-20140927", "1", "Albert Speer",
            "Berthold Konrad Hermann Albert Speer (Mannheim, 19 maart 1905 – Londen, 1 september 1981) was een Duits "
            "architect en tijdens de nazi-heerschappij"
        ),
        (
            "wikipedia2vec", "411964", "Computer accessibility",
            "In human–computer interaction, computer accessibility (also known as Accessible computing) refers to the "
            "accessibility of a computer system to all people,"
        ),
        (
            "table-markup", "217916", "Constructive vote of no confidence",
            "The constructive vote of no confidence (in German: konstruktives Misstrauensvotum, in Spanish: moción de "
            "censura constructiva) is a variation"
        ),
    ],
)  # fmt: skip
def test_the_first_sentences_of_real_articles(name, number, title, start):
    document = real(name)[0][0]
    language = re.search("([a-z]{2})wiki", name)
    code = language[1] if language else "en"
    assert (document.id, document.metadata["title"]) == (f"wikipedia/{code}/{number}", title)
    assert document.metadata["language"] == code and document.text[: len(start)] == start
    assert f"https://{code}.wikipedia.org/wiki/" in document.metadata["url"] and document.metadata["cited_urls"]


@pytest.mark.parametrize(
    ("name", "seen", "kept", "dropped"),
    [
        (
            "shortened",
            206,
            98,
            {"redirect": 99, "disambiguation": 8, "another namespace": 1},
        ),  # 100 redirects: one is there
        ("dbpedia__enwiki", 27, 23, {"redirect": 2, "disambiguation": 1, "another namespace": 1}),
        ("nlwiki-20140927", 21, 19, {"redirect": 2}),
        ("wikipedia2vec", 3, 2, {"redirect": 1}),
        ("cswiki", 2, 1, {"disambiguation": 1}),
        ("table-markup", 5, 5, {}),
        ("arwiki", 3, 3, {}),
    ],
)
def test_the_pages_of_real_dumps_are_counted(name, seen, kept, dropped):
    _, account = real(name)
    assert (account.seen, account.kept, dict(account.dropped), dict(account.errors)) == (seen, kept, dropped, {})


MARKUP = re.compile(
    r"\[\[|\]\]|\{\{|\}\}|'''|\{\||\|\}|<ref|</|<!--|&[a-z]+;|^[|!*#]|^=|__[A-Z]+__|\(\s*[,;)]", re.MULTILINE
)


def test_no_markup_is_left_in_any_real_article():
    documents, _ = read(REAL, workers=2)
    assert len(documents) > 170
    code = re.compile(r"\$\$?[^$]*\$\$?")  # formulas stay as they are
    left = {
        (document.metadata["title"], match[0])
        for document in documents
        for match in itertools.islice(MARKUP.finditer(code.sub("x", document.text)), 5)
    }
    assert left == set()


def test_a_real_number_in_a_template_is_not_lost():
    alabama = next(document for document in real("shortened")[0] if document.metadata["title"] == "Alabama")
    assert "At 1300 mi, Alabama has one of the longest navigable inland waterways in the nation." in alabama.text
    assert len(alabama.metadata["cited_urls"]) > 100
