"""A licence is known by its own words, and whatever changes them makes it another one."""

import textwrap
from importlib.metadata import distribution
from pathlib import Path

import pytest

from data_pipelines.clean import license_texts as texts
from data_pipelines.clean.licenses import OTHER, UNKNOWN, identify, mentioned
from tests.data_pipelines.fuzz import mutants, survive

MIT = "MIT License\n\nCopyright (c) 2019 Somebody <some@body.example>\n\n" + texts.MIT
BSD2 = f"Copyright 2003, The Somebodies\nAll rights reserved.\n\n{texts.BSD_CONDITIONS}\n\n{texts.BSD_DISCLAIMER}"
BSD3 = "\n\n".join([texts.BSD_CONDITIONS, texts.BSD_NAMES, texts.BSD_DISCLAIMER])
APACHE = "\n".join(["Apache License\nVersion 2.0, January 2004", texts.APACHE, "END OF TERMS AND CONDITIONS"])
GPL_TITLE = "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007\n"


@pytest.mark.parametrize(
    ("text", "spdx"), [(MIT, "MIT"), (BSD2, "BSD-2-Clause"), (BSD3, "BSD-3-Clause"), (APACHE, "Apache-2.0")]
)
def test_each_licence_is_known_by_its_text_however_it_is_laid_out(text, spdx):
    assert identify(text) == spdx
    for width in (40, 66, 79, 500):
        assert identify("\n".join(textwrap.fill(part, width) for part in text.split("\n\n"))) == spdx
    assert identify("".join(f" * {line}\n" for line in text.splitlines())) == spdx
    assert identify(text.replace('"', "''").replace("\n", "\r\n")) == spdx


def test_holders_may_be_named_inside_a_bsd_licence():
    named = BSD3.replace("the copyright holder nor", "the University of Elsewhere, Department of Tides, nor")
    named = named.replace("COPYRIGHT HOLDERS AND CONTRIBUTORS", "REGENTS OF THE UNIVERSITY OF ELSEWHERE")
    assert identify(named) == "BSD-3-Clause"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "\n\nThe Software shall be used for Good, not Evil.",
        lambda text: text.replace("without restriction", "for non-commercial purposes only, without restriction"),
        lambda text: text.replace("to any person", "to any academic institution and person"),
        lambda text: "“Commons Clause” License Condition v1.0\n\n" + text,
        lambda text: text + "\n\nYou may not use this software to train machine learning models.",
        lambda text: text.replace(
            "The above copyright notice and this permission notice shall be included in all copies", ""
        ),
        lambda text: text[: len(text) // 2],
        lambda text: text + "\n\n" + "This folder also holds files of many other people, whose terms are theirs. " * 8,
        lambda text: text + "\n\nThe parser is under the GNU Lesser General Public License.",
        lambda text: " ".join(reversed(text.split(" "))),
        lambda text: text + "x" * 200_000,
    ],
)
def test_a_licence_with_other_words_in_it_is_not_that_licence(change):
    assert identify(change(MIT)) in (OTHER, UNKNOWN)


def test_bsd_with_an_advertising_clause_is_another_licence():
    clause = (
        "3. All advertising materials mentioning features or use of this software must display an acknowledgement.\n"
    )
    assert identify(BSD3.replace("3. Neither", clause + "4. Neither")) == OTHER


def test_two_licences_in_one_file_both_hold():
    assert identify(MIT + "\n\n-----\n\n" + BSD2) == "BSD-2-Clause AND MIT"
    assert identify(MIT + "\n\n-----\n\n" + GPL_TITLE) == OTHER


@pytest.mark.parametrize("text", ["", "Ask Mara.", "See the file COPYRIGHT.", "All rights reserved.", "word " * 5000])
def test_what_is_no_licence_is_not_recognised(text):
    assert identify(text) == UNKNOWN


def test_the_licences_of_this_machine_s_system_are_known():
    folder = Path("/usr/share/common-licenses")
    if not (folder / "GPL-3").is_file():
        pytest.skip(f"{folder} is not here: only Debian and its kin have it")
    kept = {"Apache-2.0": "Apache-2.0", "BSD": "BSD-3-Clause"}
    for file in sorted(folder.iterdir()):
        assert identify(file.read_text(errors="replace")) == kept.get(file.name, OTHER), file


@pytest.mark.parametrize(
    ("package", "expected"),
    [("pluggy", {"MIT"}), ("packaging", {"Apache-2.0", "BSD-2-Clause", "Apache-2.0 AND BSD"}), ("numpy", {OTHER})],
)
def test_the_licence_files_of_installed_packages_are_known(package, expected):
    files = [file for file in distribution(package).files or [] if ".dist-info/" in str(file)]
    files = [file for file in files if file.name.startswith("LICENSE") and "/numpy/" not in str(file)]
    assert {identify(file.read_text()) for file in files} == expected


def test_running_text_names_licences():
    assert mentioned("Released under the MIT license.") == "MIT"
    assert mentioned("Dual-licensed under the Apache License 2.0 and the MIT license.") == "Apache-2.0 AND MIT"
    assert mentioned("Licensed under the MIT license or the GPL.") == OTHER
    assert mentioned("We are committed to openness.") == UNKNOWN


def test_no_spoilt_licence_takes_long_or_raises():
    def parse(data: bytes) -> None:
        identify(data.decode("utf-8", "replace"))

    words = [
        b"permission is hereby granted free of charge ",
        b" AND ",
        b" OR ",
        b"(",
        b")",
        b"neither the name of ",
        b"GPL",
    ]
    seeds = [part.encode() for part in (MIT, BSD2, BSD3)]
    survive(parse, mutants(seeds, words=words))


def test_many_licences_in_one_text_are_given_up_on():
    assert identify((texts.MIT + "\n") * 150) == UNKNOWN
    assert identify("permission is hereby granted free of charge " * 4000) == UNKNOWN
