"""The nearest licence text decides, statements may refuse, and silence is a refusal."""

import pytest

from data_pipelines.clean.license_gate import NO_LICENSE, NOT_THEIRS, Gate, is_evidence, is_license
from data_pipelines.clean.licenses import OTHER, UNKNOWN
from tests.data_pipelines.clean.test_licenses import APACHE, BSD2, GPL_TITLE, MIT
from tests.data_pipelines.fuzz import mutants, survive

PKG_INFO = "Metadata-Version: 2.1\nName: tides\nVersion: 1\n"


def judged(files: dict[str, str], path: str = "src/a.py") -> tuple[str | None, str]:
    gate = Gate()
    for name, text in files.items():
        assert is_evidence(name), name
        gate.add(name, text.encode())
    return gate.judge(path)


def test_what_is_vendored_needs_a_licence_of_its_own():
    around = {"LICENSE": MIT}
    assert judged(around, "pkg/_vendor/tides/a.py") == (None, NOT_THEIRS)
    assert judged(around | {"pkg/_vendor/tides/LICENSE": BSD2}, "pkg/_vendor/tides/a.py") == ("BSD-2-Clause", "")
    assert judged(around | {"pkg/_vendor/tides/LICENSE": BSD2}, "pkg/_vendor/waves/a.py") == (None, NOT_THEIRS)
    assert judged(around, "pkg/vendors.py") == ("MIT", "")


@pytest.mark.parametrize(
    ("files", "verdict"),
    [
        ({}, (None, NO_LICENSE)),
        ({"LICENSE": MIT}, ("MIT", "")),
        ({"LICENCE.md": BSD2}, ("BSD-2-Clause", "")),
        ({"COPYING": GPL_TITLE}, (None, OTHER)),
        ({"LICENSE": "Ask us first."}, (None, UNKNOWN)),
        ({"LICENSE-MIT": MIT, "LICENSE-APACHE": APACHE}, ("Apache-2.0 AND MIT", "")),
        ({"LICENSE-MIT": MIT, "COPYING": GPL_TITLE}, (None, OTHER)),
        ({"LICENSE-MIT": MIT, "COPYING": GPL_TITLE, "Cargo.toml": '[package]\nlicense = "MIT OR GPL-2.0"\n'}, ("MIT", "")),
        ({"COPYING": GPL_TITLE, "package.json": '{"license": "MIT OR Apache-2.0"}'}, (None, OTHER)),
        ({"LICENSE": MIT, "package.json": '{"license": "MIT OR Apache-2.0"}'}, ("Apache-2.0 OR MIT", "")),
        ({"LICENSE": MIT, "pyproject.toml": '[project]\nlicense = {text = "LGPL-3.0"}\n'}, (None, OTHER)),
        ({"LICENSE": MIT, "package.json": '{"license": "MIT"}'}, ("MIT", "")),
        ({"package.json": '{"license": "ISC"}'}, (None, OTHER)),
        ({"package.json": '{"licenses": [{"type": "MIT"}, {"type": "GPL"}]}'}, (None, OTHER)),
        ({"package.json": "[" * 100_000}, (None, NO_LICENSE)),
        ({"setup.cfg": "[metadata]\nlicense = BSD-3-Clause\nlicense_files = LICENSE\n"}, ("BSD-3-Clause", "")),
        ({"pyproject.toml": '[project]\nlicense = { file = "LICENSE" }\n'}, (None, NO_LICENSE)),
        ({"pyproject.toml": '[tool.other]\nlicense = "MIT"\n'}, (None, NO_LICENSE)),
        ({"PKG-INFO": PKG_INFO + "License-Expression: Apache-2.0\n"}, ("Apache-2.0", "")),
        ({"PKG-INFO": PKG_INFO + "License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License\n"}, ("MIT", "")),
        ({"PKG-INFO": PKG_INFO + "Classifier: License :: OSI Approved :: GNU Affero General Public License v3\n"}, (None, OTHER)),
        ({"PKG-INFO": PKG_INFO + "License: MIT\n\nLicense-Expression: GPL-3.0-only\n"}, ("MIT", "")),  # that is the description
        ({"README.md": "# Tides\n\n## License\n\nApache License 2.0\n"}, ("Apache-2.0", "")),
        ({"README.md": "# Tides\n\nThe MIT license is short.\n"}, (None, NO_LICENSE)),
        ({"README.md": "## License\nMIT license, but the data is under Creative Commons\n"}, (None, OTHER)),
        ({"README.md": "## License\nMIT license\n", "COPYING": GPL_TITLE}, (None, OTHER)),
        ({"README.md": "\n " * 100_000}, (None, NO_LICENSE)),
        ({"LICENSES/MIT.txt": MIT, "LICENSES/GPL-3.0.txt": GPL_TITLE}, (None, OTHER)),
        ({"LICENSES/Other.txt": GPL_TITLE, "LICENSE": MIT}, ("MIT", "")),  # Kubernetes keeps its parts' licences there
        ({"LICENSE": MIT + " " * 200_001}, (None, UNKNOWN)),
    ],
)  # fmt: skip
def test_what_lies_at_the_top_decides(files, verdict):
    assert judged(files) == verdict


@pytest.mark.parametrize(
    ("files", "path", "verdict"),
    [
        ({"LICENSE": MIT, "vendor/x/LICENSE": GPL_TITLE}, "vendor/x/deep/a.c", (None, OTHER)),
        ({"LICENSE": MIT, "vendor/x/LICENSE": GPL_TITLE}, "vendored_tides/xy/a.c", ("MIT", "")),
        ({"LICENSE": MIT, "vendor/x/LICENSE": BSD2}, "vendor/x/a.c", ("BSD-2-Clause", "")),
        ({"COPYING": GPL_TITLE, "vendor/x/LICENSE": BSD2}, "vendor/x/a.c", ("BSD-2-Clause", "")),
        ({"COPYING": GPL_TITLE, "tests/package.json": '{"license": "MIT"}'}, "tests/a.js", (None, OTHER)),
        ({"LICENSE": MIT, "tests/package.json": '{"license": "MIT"}'}, "tests/a.js", ("MIT", "")),
        ({"LICENSE": MIT, "tests/package.json": '{"license": "GPL-2.0"}'}, "tests/a.js", (None, OTHER)),
    ],
)
def test_the_nearest_licence_text_decides(files, path, verdict):
    assert judged(files, path) == verdict


@pytest.mark.parametrize(
    ("name", "license"),
    [
        *(
            (name, True)
            for name in ("LICENSE", "license.txt", "COPYING.LESSER", "LICENSE-2.0.txt", "MIT-LICENSE", "UNLICENSE")
        ),
        *(
            (name, True)
            for name in ("a/b/Licence.md", "LICENSE.APACHE", "LICENSE_MIT", "GPL.txt", "LICENSE.markdown-it")
        ),
        *((name, False) for name in ("license.py", "licenses.json", "license_gate.go", "copying.c", "LICENSE_HEADER")),
        *((name, False) for name in ("LICENSE-THIRD-PARTY", "LICENSES_bundled.txt", "license.js", "README.md")),
    ],
)
def test_licence_files_are_known_by_name(name, license):
    assert is_license(name) == license


def test_a_project_of_very_many_licences_is_refused(monkeypatch):
    monkeypatch.setattr("data_pipelines.clean.license_gate.MAX_EVIDENCE", 2)
    assert judged({"LICENSE": MIT, "a/LICENSE": MIT, "b/LICENSE": MIT}) == (None, UNKNOWN)


def test_no_spoilt_metadata_takes_long_or_raises():
    seeds = [
        b'[project]\nname = "a"\nlicense = {text = "MIT"}\n[tool.poetry]\nlicense = "MIT OR Apache-2.0"\n',
        b'{"name": "a", "license": {"type": "MIT"}, "licenses": ["MIT", {"type": "BSD"}]}',
        (
            PKG_INFO + "License: MIT\n License text\nClassifier: License :: OSI Approved :: MIT License\n\nHello\n"
        ).encode(),
        b"Tides\n=====\n\nLicense\n-------\n\nMIT license, see LICENSE.\n",
    ]

    def parse(data: bytes) -> None:
        gate = Gate()
        for name in ("pyproject.toml", "package.json", "PKG-INFO", "README.md", "LICENSE"):
            gate.add(f"a/{name}", data)
            gate.add(name, data)
        gate.judge("a/b/c.py")

    survive(parse, mutants(seeds, words=[b"[", b"{", b"license = ", b"License: ", b"\n\n", b"MIT", b"AND", b"("]))
