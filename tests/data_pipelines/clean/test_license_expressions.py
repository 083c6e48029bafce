"""A licence that is stated comes to what may be kept of it."""

import pytest

from data_pipelines.clean.license_expressions import evaluate, tagged
from data_pipelines.clean.licenses import OTHER, UNKNOWN
from tests.data_pipelines.fuzz import mutants, survive


@pytest.mark.parametrize(
    ("expression", "verdict", "choice"),
    [
        ("MIT", "MIT", False),
        ("apache-2.0", "Apache-2.0", False),
        ("MIT OR Apache-2.0", "Apache-2.0 OR MIT", False),
        ("MIT/Apache-2.0", "Apache-2.0 OR MIT", False),
        ("MIT AND Apache-2.0", "Apache-2.0 AND MIT", False),
        ("GPL-2.0-or-later OR MIT", "MIT", True),
        ("GPL-2.0-or-later AND MIT", OTHER, False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", OTHER, False),
        ("MIT AND (GPL-3.0-only OR BSD-3-Clause)", "BSD-3-Clause AND MIT", True),
        ("Apache-2.0 WITH LLVM-exception", "Apache-2.0", False),
        ("Apache License, Version 2.0", "Apache-2.0", False),
        ("The MIT License (MIT)", "MIT", False),
        ("BSD 3-Clause License", "BSD-3-Clause", False),
        ("New BSD", "BSD-3-Clause", False),
        ("BSD", "BSD", False),
        ("GNU General Public License v2 or later (GPLv2+)", OTHER, False),
        ("MIT-0", OTHER, False),
        ("ISC", OTHER, False),
        ("BSD-4-Clause", OTHER, False),
        ("LicenseRef-Ours", UNKNOWN, False),
        ("Dual License", UNKNOWN, False),
        ("", UNKNOWN, False),
        ("(" * 900, UNKNOWN, False),
        ("MIT AND " * 100, UNKNOWN, False),
        ("(MIT AND Apache-2.0", UNKNOWN, False),
    ],
)
def test_an_expression_comes_to_what_may_be_kept(expression, verdict, choice):
    assert evaluate(expression) == (verdict, choice)


def test_tags_in_a_file_all_hold():
    assert tagged("/* SPDX-License-Identifier: MIT */\n") == "MIT"
    assert tagged("<!-- SPDX-License-Identifier: BSD-3-Clause -->") == "BSD-3-Clause"
    assert tagged("// SPDX-License-Identifier: GPL-2.0 OR MIT\n") == "MIT"
    assert tagged("# SPDX-License-Identifier: MIT\n# SPDX-License-Identifier: GPL-2.0\n") == OTHER
    assert tagged("no tag") is None


def test_no_spoilt_expression_takes_long_or_raises():
    def parse(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        evaluate(text)
        evaluate(text[:1000])
        tagged(text)

    seeds = [
        b"MIT AND (Apache-2.0 OR BSD-3-Clause)",
        b"Apache License, Version 2.0",
        b"# SPDX-License-Identifier: MIT\n",
    ]
    survive(parse, mutants(seeds, words=[b" AND ", b" OR ", b"(", b")", b"/", b", ", b"or later", b" ", b"GPL"]))
