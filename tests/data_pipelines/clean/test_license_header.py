"""Of the comments at a file's start the licence header goes, and nothing else does."""

import pytest

from data_pipelines.clean.code import FILES, LANGUAGES
from data_pipelines.clean.license_header import COMMENTS, strip_header
from data_pipelines.clean.licenses import OTHER, UNKNOWN, mentioned
from tests.data_pipelines.fuzz import mutants, survive


@pytest.mark.parametrize(
    ("language", "text", "stripped"),
    [
        ("C", "/* Copyright 2001 A */\n#include <a.h>\n", "#include <a.h>\n"),
        ("C", "// Copyright 2001 A\n// B\n\n#include <a.h>\nint a;\n", "#include <a.h>\nint a;\n"),
        ("C", "#include <a.h>\n/* Copyright 2001 A */\n", None),
        ("C", "/* Says how high the water is. */\nint a;\n", None),
        ("C", "/* Tides */\n\n/* Copyright 2001 A */\n\nint a;\n", "/* Tides */\n\nint a;\n"),
        ("C", "/* Copyright */ int a;\n", None),
        ("C", "#pragma once\n\n// Copyright 2001 A\n\nint a;\n", "#pragma once\nint a;\n"),
        ("C", "/* Copyright, and no end\nint a;\n", None),
        ("Java", "/*\n * Licensed under the Apache License\n */\npackage a;\n", "package a;\n"),
        ("Python", "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n# Copyright A\n# B\nimport a\n",
                   "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\nimport a\n"),
        ("Python", '"""Copyright 2001 A."""\n\nimport a\n', "import a\n"),
        ("Python", '"""Tides.\n\nCopyright 2001 A.\n"""\n\nimport a\n', None),
        ("Python", "# Copyright A\n\n# Tides are periodic.\nx = 1\n", "# Tides are periodic.\nx = 1\n"),
        ("Python", "# Tides are periodic.\nx = 1\n", None),
        ("Markdown", "# Copyright law\n\nA primer.\n", None),
        ("Markdown", "<!-- Copyright A -->\n# Tides\n", "# Tides\n"),
        ("HTML", "<!DOCTYPE html>\n<!--\n  SPDX-License-Identifier: MIT\n-->\n<p>A\n", "<!DOCTYPE html>\n<p>A\n"),
        ("PHP", "<?php\n// Copyright A\n\nf();\n", "<?php\nf();\n"),
        ("SQL", "-- Copyright A\nSELECT 1;\n", "SELECT 1;\n"),
        ("TeX", "% Copyright A\n% B\n\\section{C}\n", "\\section{C}\n"),
        ("Assembly", "; Copyright A\n\tmov a, b\n", "\tmov a, b\n"),
        ("Lua", "--[[ Copyright A ]]\nlocal a\n", "local a\n"),
        ("Haskell", "{- Copyright A -}\nmodule A where\n", "module A where\n"),
        ("Fortran", "! Copyright A\ncall b\n", "call b\n"),
        ("Batchfile", "@echo off\nREM Copyright A\nrem B\ncall b\n", "@echo off\ncall b\n"),
        ("Shell", "#!/bin/sh\n#\n# (c) 2001 A\n#\nset -e\n", "#!/bin/sh\nset -e\n"),
        ("reStructuredText", ".. Copyright A\n\nTides\n=====\n", "Tides\n=====\n"),
    ],
)  # fmt: skip
def test_only_the_licence_header_goes(language, text, stripped):
    left, header, _ = strip_header(text, language)
    assert left == (text if stripped is None else stripped)
    assert bool(header) == (stripped is not None)


LGPL = """# This library is free software; you can redistribute it and/or
# modify it under the terms of the GNU Lesser General Public
# License as published by the Free Software Foundation.
"""
MPL = """/* This Source Code Form is subject to the terms of the Mozilla Public
 * License, v. 2.0. */
"""


@pytest.mark.parametrize(
    ("language", "text", "verdict"),
    [
        ("Python", LGPL + "import a\n", OTHER),
        ("C", MPL + "int a;\n", OTHER),
        ("Python", "# GPL v2\nimport a\n", OTHER),
        ("Python", "# License: GPL-3.0\nimport a\n", OTHER),
        ("Python", "# This is released under GPLv3.\nimport a\n", OTHER),
        ("Python", "# Confidential and proprietary\nimport a\n", OTHER),
        ("Python", '"""Tides.\n\nLicensed under the GNU General\nPublic License.\n"""\nimport a\n', OTHER),
        ("Python", '"""Tides, packed by zlib."""\nimport a\n', UNKNOWN),
        ("Python", "# Licensed under the MIT licence\nimport a\n", "MIT"),
    ],
)
def test_another_licence_is_heard_however_it_is_named(language, text, verdict):
    _, header, named = strip_header(text, language)
    assert mentioned(header + named) == verdict


def test_files_that_differ_in_their_header_only_become_the_same():
    code = "int tide(int hour)\n{\n    return hour % 12;\n}\n"
    headers = [
        "",
        "/* Copyright 2001 A */\n",
        "/* Copyright 2002 B */\n\n",
        "// Copyright 2003 C\n// Licensed under MIT\n\n",
    ]
    assert {strip_header(header + code, "C").text for header in headers} == {code}


def test_every_language_has_its_comment_signs():
    assert set(COMMENTS) <= {*LANGUAGES.values(), *FILES.values()}


def test_no_spoilt_file_takes_long_or_raises():
    def parse(data: bytes) -> None:
        for name in ("C", "Python", "Lua", "Fortran", "HTML", "PHP"):
            text, header, _ = strip_header(data.decode("utf-8", "replace"), name)
            assert bool(header) == (len(text) < len(data.decode("utf-8", "replace")))

    seeds = [
        b"#!/bin/sh\n# Copyright 2001 A\n\nset -e\n" * 3,
        b"/*\n * Copyright 2001 A\n * SPDX-License-Identifier: MIT\n */\n#include <a.h>\nint main(void) { return 0; }\n",
        b'"""Copyright 2001 A."""\n\nimport a\n\n\ndef f(x):\n    return x + 1\n',
        b"<?php\n// generated by hand\n<!-- (c) 2001 -->\n--[[ Copyright ]]\n",
    ]
    survive(
        parse,
        mutants(seeds, words=[b"/*", b"*/", b"//", b"#", b"<!--", b"-->", b'"""', b"\n", b" ", b"!", b"copyright "]),
    )
