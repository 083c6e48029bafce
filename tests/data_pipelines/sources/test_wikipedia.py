"""Wikipedia: our sample word by word, however it is packed and by however many workers; paths, names and languages."""

import bz2
import gzip
import lzma

import pytest

from data_pipelines.account import Account
from data_pipelines.dumps import wikipedia_dump
from data_pipelines.sources import wikipedia
from tests.conftest import ROOT

SAMPLES = ROOT / "data_pipelines" / "samples" / "wikipedia"
ENGLISH = SAMPLES / "enwiki-20240601-pages-articles-multistream.xml.bz2"
BULGARIAN = SAMPLES / "bgwiki-20220701-pages-articles.xml"


def read(*paths, **settings):
    account = Account()
    documents = list(wikipedia.read(paths, settings, account))
    account.check()
    assert account.kept == len(documents)
    return documents, account


def page(number: str, text: str, more: str = "", title: str = "T") -> bytes:
    return (
        f"<page><title>{title}</title>{more}<id>{number}</id><revision><id>9</id><text>{text}</text></revision></page>"
    ).encode()


# --- our sample ---


def test_the_sample_reads_as_its_page_would():
    documents, account = read(ENGLISH)
    assert [document.id for document in documents] == [f"wikipedia/en/{number}" for number in (12, 15, 18, 19, 23)]
    assert account.dropped == {
        **{"redirect": 1, "disambiguation": 1, "another namespace": 2, "not wikitext": 1, "empty": 1, "too short": 1}
    }
    lake, sort, poet, farm, lakes = (document.text for document in documents)
    assert lake.startswith(
        "Lake Orvel (Orwelsee, [ˈɔʁvl̩zeː]) is a glacial lake in the north of Sarn. It is 31 km long, 2 to 5 km wide and lies "
        "at 412 m above the sea. As of July 2021, some 4,300 people live on its shores.\n\nName\n\nThe name is first found as "
        'Orvela in c. 1140. In the dialect of the valley orv means "cold"—the water rarely reaches 17 °C. The lake\'s other '
        "name, L’Orvel, is French.\n\nGeography\n\nRivers\n\nThree rivers flow into the lake:\n- the Ill, 3 1/2 m deep;\n"
    )
    assert lake.endswith(
        'In art\n\nThe lake was painted by Ada Krum – see her "Blue Hour" – in 1911; her picture, 90 by 60 cm, is lost.'
    )
    assert "Islands" not in lake and "January" not in lake and "See also" not in lake
    assert "$O(n^2)$" in sort and "$$\\sum_{i=1}^{n} {{i}} = \\frac{n(n+1)}{2}$$" in sort
    assert "\n        while i and items[i - 1] > items[i]:\n" in sort and "# [[not a link]]" in sort
    assert "one writes [[link]] and {{template}} for a link and a template; H2O is water, and 5 < 7." in sort
    assert poet.startswith("Kiyo (清, Kiyo) was a poet of whom forty poems are left.")
    assert "Snow on the bridge;\nnobody has yet crossed it.\n\nThe lamp burns low,\nthe rain goes on." in poet
    assert "barn and a stable, which are old" in farm and farm.endswith(
        "In 1902 it was rebuilt with a roof of slate."[3:]
    )
    assert lakes.endswith("Shallow\n\nSouth\n\n- Lake Lumen (40 m)") and "Deep" not in lakes and "North" not in lakes


def test_metadata_of_the_sample():
    assert read(ENGLISH)[0][0].metadata == {
        "source": "wikipedia",
        "language": "en",
        "url": "https://en.wikipedia.org/wiki/Lake_Orvel",
        "license": "CC-BY-SA-4.0",
        "date": "2024-06-01",
        "bytes": 3039,
        "title": "Lake Orvel",
        "page": "12",
        "revision": "12007",
        "cited_urls": [
            "https://orvel.example/visit",
            "https://maps.example/orvel",
            "https://survey.example/lakes?id=7&page=2",
            "http://rivers.example/krum.html",
            "https://weather.example/tarn",
            "http://letters.example/krum",
            "https://orvel.example/",
        ],
    }


def test_utf_16_is_read_and_its_own_words_are_known():
    [document], account = read(BULGARIAN)
    assert BULGARIAN.read_bytes()[:2] == b"\xff\xfe"
    assert account.dropped == {"redirect": 1, "another namespace": 1}
    assert document.text == (
        "Езерото е естествен водоем, запълнил котловина в земната повърхност. То няма пряка връзка с морето (освен чрез "
        "реки).\n\nВидове\n\nСпоред произхода си езерата биват lacus: ледникови, тектонски, крайбрежни и други, а по "
        "солеността — сладководни и солени."
    )
    assert document.metadata["license"] == "CC-BY-SA-3.0"  # before June 2023
    assert document.metadata["url"] == "https://bg.wikipedia.org/wiki/%D0%95%D0%B7%D0%B5%D1%80%D0%BE"


def test_workers_streams_and_packing_change_nothing(tmp_path):
    expected = [(document.id, document.text) for document in read(ENGLISH)[0]]
    xml = bz2.decompress(ENGLISH.read_bytes())
    pieces = [xml[i : i + 700] for i in range(0, len(xml), 700)]
    packed = {
        "enwiki.xml": xml,
        "enwiki.xml.gz": gzip.compress(xml),
        "enwiki.xml.xz": lzma.compress(xml),
        "enwiki.xml.bz2": bz2.compress(xml),
        "enwiki-parallel.xml.bz2": b"".join(map(bz2.compress, pieces)),  # as pbzip2 does it: streams part pages
        "enwiki-latest-pages-articles1.xml-p1p100.bz2": ENGLISH.read_bytes(),
        "enwiki-utf16.xml": xml.decode().encode("utf-16-be"),
    }
    for name, data in packed.items():
        (tmp_path / name).write_bytes(data)
        documents, account = read(tmp_path / name, workers=1)
        assert [(document.id, document.text) for document in documents] == expected, name
        assert not account.errors and account.seen == 12
    assert wikipedia_dump.is_multistream(ENGLISH) and not wikipedia_dump.is_multistream(
        tmp_path / "enwiki-parallel.xml.bz2"
    )
    assert [(document.id, document.text) for document in read(ENGLISH, workers=3)[0]] == expected


def test_many_blocks_come_out_in_the_order_of_the_dump(tmp_path):
    pages = [page(str(number), "A page of some words. " * 40) for number in range(300)]
    (tmp_path / "enwiki.xml").write_bytes(b"<mediawiki>" + b"".join(pages) + b"</mediawiki>")
    expected = [f"wikipedia/en/{number}" for number in range(300)]
    for workers in (1, 2):
        assert [document.id for document in read(tmp_path / "enwiki.xml", workers=workers)[0]] == expected


# --- paths and names ---


def test_a_folder_is_searched_for_dumps_and_nothing_else(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ENGLISH.name).write_bytes(ENGLISH.read_bytes())
    (tmp_path / ENGLISH.name.replace(".xml.bz2", "-index.txt.bz2")).write_bytes(bz2.compress(b"600:12:Lake Orvel\n"))
    (tmp_path / "abstract.txt").write_text("no")
    (tmp_path / "link.xml").symlink_to(BULGARIAN)
    assert len(read(tmp_path)[0]) == 5
    stat = ENGLISH.stat()
    assert [entry[:2] for entry in wikipedia.inputs([tmp_path, BULGARIAN], {})] == [
        (f"sub/{ENGLISH.name}", stat.st_size),
        (BULGARIAN.name, BULGARIAN.stat().st_size),
    ]
    with pytest.raises(ValueError, match=r"nothing to read in .*none: looked for pages-articles dumps"):
        (tmp_path / "none").mkdir()
        read(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"gone.xml.bz2 does not exist"):
        read(tmp_path / "gone.xml.bz2")


def test_the_language_is_the_names_then_the_users_then_the_dumps(tmp_path):
    dump = b"<mediawiki><siteinfo><dbname>dewiki</dbname></siteinfo>" + page("1", "Text") + b"</mediawiki>"
    names = ["dbpedia__frwiki.xml", "zh_min_nanwiki-20240101.xml", "simplewiki-20240101.xml", "dump.xml"]
    for name in names:
        (tmp_path / name).write_bytes(dump)
    paths = [tmp_path / name for name in names]
    found = [
        (d.id, d.metadata["language"], d.metadata["date"]) for d in read(*paths, min_characters=1, language="pl")[0]
    ]
    assert found == [
        ("wikipedia/fr/1", "fr", None),
        ("wikipedia/zh-min-nan/1", "zh-min-nan", "2024-01-01"),
        ("wikipedia/simple/1", "en", "2024-01-01"),
        ("wikipedia/pl/1", "pl", None),
    ]
    assert read(paths[3], min_characters=1)[0][0].id == "wikipedia/de/1"
    paths[3].write_bytes(page("1", "Text") + b"</mediawiki>")
    assert read(paths[3], min_characters=1)[0][0].id == "wikipedia/und/1"


def test_namespaces_come_from_the_dump_where_a_page_does_not_tell(tmp_path):
    site = b'<mediawiki><siteinfo><namespaces><namespace key="6">Gambar</namespace></namespaces></siteinfo>'
    text = "Jawa [[Gambar:x.jpg|jmpl|keterangan]]adalah pulau."
    pages = page("1", text) + page("2", text, title="Gambar:X") + page("3", text, more="<ns>4</ns>")
    (tmp_path / "jvwiki.xml").write_bytes(site + pages + b"</mediawiki>")
    [document], account = read(tmp_path / "jvwiki.xml", min_characters=1)
    assert document.text == "Jawa adalah pulau." and account.dropped == {"another namespace": 2}
