"""Real books of Project Gutenberg, against what was read in the files by eye: beginnings, ends, twins, old editions."""

from pathlib import Path

import pytest

from data_pipelines.account import Account
from tests.conftest import SHARED
from tests.data_pipelines.sources.test_gutenberg import read_all


@pytest.fixture(scope="module")
def real() -> Path:
    folder = SHARED / "realdata" / "gutenberg"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: real books exist only on some machines")
    return folder


def test_the_real_mirror_files_give_four_books(real):
    documents, account = read_all(real)
    assert list(documents) == [f"gutenberg/{number}" for number in (972, 1342, 3261, 44157)]
    assert account == Account(
        seen=11,
        kept=4,
        dropped={
            "older edition": 3,
            "another encoding of the same book": 2,
            "TeX or HTML form of a book": 1,
            "no book number": 1,  # old/pandp09.txt is a list of files
        },
    )
    pride = documents["gutenberg/1342"]
    assert pride.text.startswith(
        "PRIDE AND PREJUDICE\n\nBy Jane Austen\n\nChapter 1\n\nIt is a truth universally acknowl"
    )
    assert pride.text.endswith("by bringing her into Derbyshire, had been the means of uniting them.")
    assert "want of a wife.\n\nHowever little known the feelings or views of such a man may be on his" in pride.text
    assert pride.metadata["authors"] == ["Austen, Jane"] and pride.metadata["date"] == "1998-06-01"
    assert pride.metadata["subjects"][0] == "Courtship -- Fiction"
    nowhere = documents["gutenberg/3261"].text
    assert nowhere.startswith("NEWS FROM NOWHERE\nOR\nAN EPOCH OF REST\nBEING SOME CHAPTERS FROM\nA UTOPIAN ROMANCE")
    assert "Up at the League, says a friend, there had been one night a brisk conversational discussion, as" in nowhere
    devil = documents["gutenberg/972"].text
    assert "\n\nABASEMENT, n. A decent and customary mental attitude in the presence of wealth or power. " in devil
    assert devil.endswith(
        "_A History of Animated Nature_) that".replace("_", "") + " the domestic cow sheds its horn every two years."
    )
    assert all("gutenberg" not in document.text.lower() for document in documents.values())


def test_the_real_old_editions_alone_are_taken(real):
    olds = [real / f"old__{name}.txt" for name in ("dvldc10", "nwsnw10", "pandp12")]
    documents, account = read_all(*olds)
    assert (account.kept, account.seen) == (3, 3)
    assert documents["gutenberg/1342"].text.startswith(
        "Pride and Prejudice\n\nby Jane Austen\n\nChapter 1\n\nIt is a tr"
    )
    assert documents["gutenberg/972"].metadata["title"] == "The Devil's Dictionary"
    assert documents["gutenberg/972"].text.endswith("the domestic cow sheds its horn every two years.")
    assert documents["gutenberg/3261"].text.endswith("{3} Cirencester and Burford he must have meant.")
    assert all("gutenberg" not in document.text.lower() for document in documents.values())


def test_real_twins_give_the_same_text(real):
    utf8, latin = (
        read_all(real / f"44157-{kind}.txt", real / "pg44157.rdf")[0]["gutenberg/44157"] for kind in ("0", "8")
    )
    assert utf8.metadata["language"] == latin.metadata["language"] == "fr"
    assert utf8.metadata["title"] == "Entre Nous: Lectures françaises à l'usage des écoles primaires - I"
    signs = str.maketrans("’‘“”„", '\'\'"""') | {ord("œ"): "oe"} | {ord(sign): '"' for sign in "«»"}
    one, other = (
        [" ".join(line.translate(signs).replace(" ,", ",").split()) for line in document.text.split("\n") if line]
        for document in (utf8, latin)
    )
    different = [(a, b) for a, b in zip(one, other, strict=True) if a != b]
    assert different == [
        ("regarder par la fenêtre, kijken door het venster.", "regarder par la fenêtre kijken door het venster.")
    ]


ENDS = {  # first and last words of each, as in the files between the markers, after credits and notes
    1012: ("LA DIVINA COMMEDIA\ndi Dante Alighieri\n\nINFERNO", None),
    105: ("Persuasion\n\nby\n\nJane Austen\n\n(1818)\n\nChapter 1\n\nSir Walter Elliot, of", "national importance.\n\nFinis"),
    11: ("ALICE’S ADVENTURES IN WONDERLAND\n\nLewis Carroll\n\n", "and the happy summer days.\n\nTHE END"),
    12108: ("Thomas Mann\n\nDer Tod in Venedig", "respektvoll erschütterte Welt die Nachricht von seinem Tode."),
    13951: ("Alexandre Dumas\n\nLES TROIS MOUSQUETAIRES", "château royal aux frais de sa généreuse Éminence.\n\nFIN"),
    14155: ("Gustave Flaubert\n", "Il vient de recevoir la croix d'honneur."),
    161: ("SENSE AND SENSIBILITY\n\nby Jane Austen", "producing coolness between their husbands.\n\nTHE END"),
    17340: ("Marianela\n\nPor\n\nBenito Pérez Galdós", "FIN DE «MARIANELA»\n\nMadrid.--Enero de 1878."),
    2000: ("El ingenioso hidalgo don Quijote de la Mancha\n\nTASA\n\nYo, Juan Gallo de Andrada, escribano de", "Vale.\n\nFin"),
    2229: ("Faust: Der Tragödie erster Teil\n\nJohann Wolfgang", "STIMME (von innen, verhallend):\nHeinrich!  Heinrich!"),
    244: ("A STUDY IN SCARLET.\n\nBy A. Conan Doyle", "Ipse domi simul ac nummos contemplor in arca.’”"),
    3747: ("ORLANDO FURIOSO\n\nDI\n\nLUDOVICO ARIOSTO\n\nCANTO PRIMO\n\n1\n\nLe donne, i cavallier, l'arme, gli amori,\nle",
           "che fu sì altiera al mondo e sì orgogliosa."),
    4363: ("BEYOND GOOD AND EVIL\n\nBy Friedrich Nietzsche", "And Light and Dark were one that wedding-morn."),
    4650: ("OEUVRES\n", "FIN DE CANDIDE."),
    5323: ("Effi Briest\n\nTheodor Fontane\n\nErstes Kapitel\n\nIn Front des schon seit Kurfürst", "ein zu weites Feld.«"),
    74: ("THE ADVENTURES OF TOM SAWYER\n\nBy Mark Twain", "not to reveal any of that part of their lives at present."),
    786: ("HARD TIMES\n", "FOOTNOTES"),
}  # fmt: skip


def test_real_books_begin_and_end_where_their_authors_did(books):
    files = [file for file in sorted(books.glob("*.txt")) if int(file.name.split("_")[0]) in ENDS]
    documents, account = read_all(*files, workers=2)
    assert account.seen == account.kept == len(ENDS)
    for number, (first, last) in ENDS.items():
        text = documents[f"gutenberg/{number}"].text
        assert text.startswith(first) and text.endswith(last or ""), (number, text[:80], text[-80:])
    texts = {key: document.text for key, document in documents.items()}
    assert [key for key, text in texts.items() if "gutenberg" in text.lower() or "pgdp" in text.lower()] == []
    assert "nach der Park- und Gartenseite hin ein rechtwinklig" in texts["gutenberg/5323"]
    assert "Nel mezzo del cammin di nostra vita\nmi ritrovai per una selva oscura," in texts["gutenberg/1012"]
    broken = [paragraph for paragraph in texts["gutenberg/105"].split("\n\n") if "\n" in paragraph]
    assert broken == []  # Persuasion is all prose
    languages = {document.metadata["language"] for document in documents.values()}
    assert languages == {"en", "de", "fr", "it", "es"}
