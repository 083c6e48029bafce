"""GitHub: what may be kept becomes documents, all else has its reason, in whatever a project is packed."""

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from data_pipelines.account import Account
from data_pipelines.sources import github
from tests.data_pipelines.clean.test_licenses import GPL_TITLE, MIT
from tests.data_pipelines.dumps.test_repositories import git, make_repository
from tests.data_pipelines.fuzz import MUTANTS, mutants, survive

COMMIT = "3f1c9a5d7e2b48061f9d3c5a7b9e1d2f4a6c8e0b"
TIDES = {
    "LICENSE": MIT,
    "tides.py": "# Copyright (c) 2019 Somebody\n\n\ndef high_water(moon_age):\n    return clock(moon_age) + establishment\n",
}
TIDE_TEXT = "def high_water(moon_age):\n    return clock(moon_age) + establishment"


@pytest.fixture
def samples(root) -> Path:
    return root / "data_pipelines" / "samples" / "github"


def read(*paths: Path | str, **settings) -> tuple[list, Account]:
    account = Account()
    documents = list(github.read(paths, settings, account))
    account.check()
    assert account.kept == len(documents) == len({document.id for document in documents})
    for document in documents:
        json.dumps(document.metadata)
        assert document.text == document.text.rstrip() and document.text.encode() and "\r" not in document.text
    return documents, account


def test_the_sample_archive(samples):
    documents, account = read(samples / "github.tar.gz")
    assert [document.metadata["path"] for document in documents] == [
        "Makefile", "README.md", "docs/guide.rst", "include/quadrant.h", "scripts/deploy.sh", "scripts/report.ps1",
        "src/quadrant/angle.py", "third_party/fixed/round.go", "web/app.ts",
    ]  # fmt: skip
    assert account.dropped == Counter({
        "licence text": 3, "another extension": 2, "another licence": 2, "symbolic link": 1, "not UTF-8": 1, "binary": 1,
        "Git LFS pointer": 1, "empty": 1, "generated": 1, "fewer than 1.5 letters a token": 1, "minified": 1,
        "a line longer than 1000 characters": 1,
    }) and not account.errors  # fmt: skip
    by_path = {document.metadata["path"]: document for document in documents}
    header = by_path["include/quadrant.h"]
    assert header.id == "github/quadrant/include/quadrant.h"
    assert (
        header.text.startswith("#ifndef QUADRANT_H\n#define QUADRANT_H\n\n#include <math.h>\n")
        and "Ellison" not in header.text
    )
    assert header.metadata == {
        "source": "github", "language": "", "url": f"github.tar.gz/quadrant-{COMMIT}/include/quadrant.h", "license": "MIT",
        "date": "2021-04-10", "bytes": 309, "repo": "quadrant", "path": "include/quadrant.h", "programming_language": "C",
        "commit": COMMIT, "sha256": hashlib.sha256(header.text.encode()).hexdigest(),
    }  # fmt: skip
    assert by_path["third_party/fixed/round.go"].metadata["license"] == "BSD-2-Clause"
    assert by_path["third_party/fixed/round.go"].text.startswith("// Package fixed rounds numbers")
    assert by_path["scripts/deploy.sh"].text.startswith("#!/bin/sh\nset -e\n")
    assert by_path["scripts/report.ps1"].text.startswith("# Lists the angles that were measured today\nGet-ChildItem")
    assert by_path["README.md"].text.startswith("# Quadrant\n\nAngles that know their quadrant")


def test_the_sample_of_bigquery_s_rows(samples):
    documents, account = read(samples / "github.parquet")
    assert [(document.id, document.metadata["license"]) for document in documents] == [
        ("github/ellison/quadrant/src/angle.py", "MIT"),
        ("github/fixed/round/round.go", "BSD-2-Clause"),
        ("github/wharf/cranes/cmd/crane/main.go", "Apache-2.0"),
    ]
    assert account.dropped == Counter(
        {"another licence": 2, "licence text": 1, "symbolic link": 1, "binary": 1, "no licence": 1}
    )  # the rotor's own COPYING is heard over the "mit" of its repository


def test_one_project_is_the_same_in_every_wrapping(tmp_path):
    repository = make_repository(tmp_path / "here" / "tides", TIDES)
    git(repository, "bundle", "create", "--quiet", "../tides.bundle", "main")
    git(repository, "archive", "--prefix=tides-1.0/", "--output=../tides.tar.gz", "HEAD")
    git(repository, "archive", "--prefix=tides-1.0/", "--output=../tides.zip", "HEAD")
    git(repository.parent, "clone", "--quiet", "--bare", "tides", "tides.git")
    shutil.copytree(repository, tmp_path / "plain" / "tides", ignore=shutil.ignore_patterns(".git"), symlinks=True)
    for wrapped in (
        "here/tides",
        "here/tides.bundle",
        "here/tides.tar.gz",
        "here/tides.zip",
        "here/tides.git",
        "plain/tides",
    ):
        documents, account = read(tmp_path / wrapped)
        assert [(document.text, document.metadata["license"]) for document in documents] == [(TIDE_TEXT, "MIT")], (
            wrapped
        )
        assert account.dropped["symbolic link"] == account.dropped["licence text"] == 1
        assert documents[0].id == f"github/tides{'-1.0' if wrapped.endswith(('gz', 'zip')) else ''}/tides.py"


def test_ids_do_not_depend_on_where_the_dump_lies(tmp_path):
    for place in ("one", "two/deeper"):
        for project in ("tides", "moons"):
            make_repository(tmp_path / place / "dump" / "group" / project, TIDES)
    ids = [[document.id for document in read(tmp_path / place / "dump")[0]] for place in ("one", "two/deeper")]
    assert ids[0] == ids[1] == ["github/group/moons/tides.py", "github/group/tides/tides.py"]


def test_installed_packages_are_projects_with_the_licences_they_state():
    documents, account = read(*installed("pluggy", "packaging", "certifi"))
    licenses = {document.metadata["repo"].rpartition("-")[0]: document.metadata["license"] for document in documents}
    assert licenses == {"pluggy": "MIT", "packaging": "Apache-2.0 OR BSD-2-Clause"}
    assert account.dropped["another licence"] >= 3  # certifi: the Mozilla Public License
    manager = next(document for document in documents if document.metadata["path"] == "pluggy/_manager.py")
    assert "class PluginManager:" in manager.text and not account.errors


def installed(*names: str) -> list[Path]:
    """What pip wrote about each of the packages."""
    found = [path for path in Path(sysconfig.get_path("purelib")).iterdir() if path.name.split("-")[0] in names]
    folders = {path.name.split("-")[0]: path for path in found if path.suffix == ".dist-info"}
    if missing := set(names) - folders.keys():
        pytest.skip(f"{', '.join(missing)} is not installed here")
    return [folders[name] for name in names]


def test_a_source_distribution_fetched_by_pip(tmp_path):
    """tomli states all its metadata in pyproject.toml, so that pip runs nothing of it to learn its name."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "tomli", "--dest", str(tmp_path)]
    try:
        done = subprocess.run(
            [*command, "--timeout", "5", "--retries", "0", "tomli"], capture_output=True, text=True, timeout=90
        )
    except subprocess.TimeoutExpired:
        pytest.skip("no package index answers here")
    if done.returncode:
        pytest.skip(f"pip fetches nothing here: {done.stderr.strip().splitlines()[-1:]}")
    [archive] = tmp_path.glob("tomli-*.tar.gz")
    documents, account = read(archive)
    paths = {document.metadata["path"].removeprefix("src/") for document in documents}
    assert "tomli/_parser.py" in paths and not account.errors
    assert {document.metadata["license"] for document in documents} == {"MIT"}
    parser = next(document for document in documents if document.metadata["path"].endswith("tomli/_parser.py"))
    assert "SPDX-" not in parser.text and "def loads(" in parser.text


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"LICENSE": GPL_TITLE}, "another licence"),
        ({"pyproject.toml": '[project]\nname = "a"\n'}, "no licence"),
        ({"LICENSE": "Ask Mara."}, "licence not recognised"),
        ({"LICENSE": MIT, "sub/LICENSE": GPL_TITLE}, "another licence"),
    ],
)
def test_a_project_without_a_licence_we_keep_is_dropped(files, reason, tmp_path):
    for name, text in (files | {"sub/a.py": "import tides\n"}).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    documents, account = read(tmp_path)
    assert documents == [] and account.dropped[reason] >= 1


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.py", b"# This file is licensed under the GNU General Public License.\nimport tides\n", "another licence"),
        ("a.py", b"# SPDX-License-Identifier: LGPL-2.1-only\nimport tides\n", "another licence"),
        ("a.py", b"x" * 2000, "too large"),
        ("a.py", b"# Copyright 2001 Somebody\n\n\n", "empty"),
        ("a.go", b"// Code generated by tides. DO NOT EDIT.\n", "generated"),
    ],
)
def test_a_file_of_a_kept_project_may_still_be_dropped(name, content, reason, tmp_path):
    (tmp_path / "LICENSE").write_text(MIT)
    (tmp_path / name).write_bytes(content)
    documents, account = read(tmp_path, max_file_bytes=1999)
    assert documents == [] and account.dropped == Counter({reason: 1, "licence text": 1})


def test_hostile_names_are_dropped_and_twins_kept_once(tmp_path):
    content = TIDES["tides.py"].encode()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("LICENSE", MIT)
        for name in ("a.py", "a.py", "../b.py", "/c.py", "d\\e.py", "x/../../f.py"):
            archive.writestr(name, content)
    documents, account = read(tmp_path / "a.zip")
    assert [document.id for document in documents] == ["github/a/a.py"]
    assert account.dropped == Counter({"unsafe name": 4, "name seen before": 1, "licence text": 1})


def test_a_clipped_archive_gives_a_prefix_and_an_error(samples, tmp_path):
    whole = (samples / "github.tar.gz").read_bytes()
    texts = [document.text for document in read(samples / "github.tar.gz")[0]]
    for cut in range(1000, len(whole), 211):
        (tmp_path / "github.tar.gz").write_bytes(whole[:cut])
        documents, account = read(tmp_path / "github.tar.gz")
        assert [document.text for document in documents] == texts[: len(documents)]
        assert account.errors == Counter({"truncated": 1}), cut


def test_what_is_broken_costs_only_itself(samples, tmp_path):
    shutil.copy(samples / "github.tar.gz", tmp_path / "b.tar.gz")
    (tmp_path / "a.tar.gz").write_bytes(b"no gzip")
    (tmp_path / "c.zip").write_bytes(b"PK")
    (tmp_path / "d.bundle").write_bytes(b"")
    (tmp_path / "e.parquet").write_bytes(b"PAR1PAR1")
    (tmp_path / "notes.txt").write_text("loose")
    documents, account = read(tmp_path)
    assert len(documents) == 9 and account.dropped["file of no project"] == 1
    expected = {"corrupt compression": 1, "truncated": 1, "corrupt bundle": 1, "corrupt Parquet file": 1}
    assert account.errors == Counter(expected)


def test_a_path_that_is_not_there_or_no_project_is_said_in_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    for wrong in ("empty", "a.txt"):
        (tmp_path / "a.txt").write_text("a")
        with pytest.raises(ValueError, match="no project|is no git bundle") as said:
            read(tmp_path / wrong)
        assert "\n" not in str(said.value)


def test_inputs_change_when_what_is_read_changes(samples, tmp_path):
    shutil.copy(samples / "github.tar.gz", tmp_path)
    repository = make_repository(tmp_path / "tides", TIDES)
    before = github.inputs([tmp_path], {})
    assert [name.partition("@")[0] for name, _, _ in before] == ["github.tar.gz", "tides"]
    assert before[0][1] == (samples / "github.tar.gz").stat().st_size
    (repository / "tides.py").write_text("uncommitted")
    assert github.inputs([tmp_path], {}) == before
    git(repository, "commit", "--quiet", "--all", "--message", "changed")
    assert github.inputs([tmp_path], {})[1] != before[1]
    assert github.inputs(installed("pluggy"), {})[0][0].startswith("pluggy-")


def test_parquet_takes_other_exports_names_and_ragged_rows(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = TIDES["tides.py"]
    rows = {
        "max_stars_repo_name": pa.array(["a/b", "a/c", "a/d"]).dictionary_encode(),
        "max_stars_repo_path": pa.array(["t.py"] * 3),
        "max_stars_repo_licenses": pa.array([["MIT"], ["MIT", "GPL-3.0"], []]),
        "content": pa.array([text, text, text], pa.large_string()),
    }
    pq.write_table(pa.table(rows), tmp_path / "stack.parquet")
    documents, account = read(tmp_path / "stack.parquet")
    assert [document.id for document in documents] == ["github/a/b/t.py"]
    assert account.dropped == Counter({"another licence": 1, "no licence": 1})
    rows["content"] = pa.array([text.encode(), b"\xff\xfe\xfd", None])
    pq.write_table(pa.table(rows), tmp_path / "stack.parquet")
    documents, account = read(tmp_path / "stack.parquet")
    assert len(documents) == 1 and account.dropped["row without content"] == 1
    pq.write_table(pa.table({"text": [text]}), tmp_path / "other.parquet")
    assert read(tmp_path / "other.parquet")[1].errors == Counter(
        {"Parquet file without repo_name, path and content": 1}
    )


@pytest.mark.parametrize("name", ["github.tar.gz", "github.tar", "github.parquet"])
def test_no_spoilt_dump_takes_long_raises_or_loses_a_record(name, samples, tmp_path):
    seed = (
        gzip.decompress((samples / "github.tar.gz").read_bytes())
        if name == "github.tar"
        else (samples / name).read_bytes()
    )

    def parse(data: bytes) -> None:
        (tmp_path / name).write_bytes(data)
        account = Account()
        for document in github.read([tmp_path / name], None, account):
            document.text.encode()
        account.check()

    survive(
        parse,
        mutants([seed], MUTANTS // (200 if name == "github.parquet" else 5), words=[b"PAR1", b"MIT", b"\0" * 512]),
    )


def test_the_samples_are_as_small_as_they_should_be(samples):
    assert sum(file.stat().st_size for file in samples.glob("github*")) < 20_000
    with tarfile.open(samples / "github.tar.gz") as archive:
        assert archive.pax_headers["comment"] == COMMIT
