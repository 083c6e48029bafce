"""Repositories are read through git, which runs nothing of theirs and fetches nothing."""

import os
import subprocess
from pathlib import Path

import pytest

from data_pipelines.dumps import repositories
from data_pipelines.dumps.git import Objects
from data_pipelines.dumps.repositories import git_directory, open_repository, unbundled, walk_repository
from tests.data_pipelines.fuzz import MUTANTS, mutants, survive

MOST = 100_000
FILES = {"a.py": "x = 1\n", "größe/日本.md": "höhe\n", "run.sh": "#!/bin/sh\n"}


def git(folder: Path, *words: str, stdin: str = "") -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_DATE": "2021-04-10T12:00:00Z",
        "GIT_COMMITTER_DATE": "2021-04-10T12:00:00Z",
        **{f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    command = ["git", "-C", str(folder), *words]
    done = subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make_repository(folder: Path, files: dict[str, str] = FILES) -> Path:
    """A repository with the files, a link, and a submodule that nobody fetched."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main", "--template=")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "link.py").symlink_to("/etc/passwd")
    git(folder, "add", "--all")
    git(folder, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},parts/module")
    git(folder, "commit", "--quiet", "--message", "all of it")
    return folder


def walk(git_folder: Path) -> tuple[dict[str, str], str]:
    """({path: content or what else it is}, what the walk ended with)."""
    found = {}
    try:
        for entry in walk_repository(open_repository(git_folder), MOST):
            try:
                found[entry.path] = entry.special or entry.read().decode()
            except ValueError as error:
                found[entry.path] = str(error)
    except ValueError as error:
        return found, str(error)
    return found, ""


EXPECTED = FILES | {"link.py": "symbolic link", "parts/module": "submodule"}


def test_a_working_tree_is_read_from_its_commit_and_not_from_its_files(tmp_path):
    folder = make_repository(tmp_path / "quadrant")
    (folder / "a.py").write_text("changed")
    (folder / "new.py").write_text("new")
    assert walk(git_directory(folder)) == (EXPECTED, "")
    repository = open_repository(folder / ".git")
    assert (repository.commit, repository.date) == (git(folder, "rev-parse", "HEAD"), "2021-04-10")


def test_a_bare_repository_is_read(tmp_path):
    make_repository(tmp_path / "quadrant")
    git(tmp_path, "clone", "--quiet", "--bare", "quadrant", "bare.git")
    assert git_directory(tmp_path / "bare.git") == tmp_path / "bare.git"
    assert walk(tmp_path / "bare.git") == (EXPECTED, "")


def test_a_bundle_is_read_and_leaves_nothing_behind(tmp_path, monkeypatch):
    folder = make_repository(tmp_path / "quadrant")
    git(folder, "bundle", "create", "--quiet", "../all.bundle", "--all", "HEAD")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with unbundled(tmp_path / "all.bundle") as repository:
        entries = {entry.path: entry.special or entry.read().decode() for entry in walk_repository(repository, MOST)}
    assert entries == EXPECTED and list((tmp_path / "temporary").iterdir()) == []


def test_a_bundle_without_its_past_or_its_end_is_refused(tmp_path):
    folder = make_repository(tmp_path / "quadrant")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "more")
    git(folder, "bundle", "create", "--quiet", "../part.bundle", "HEAD~1..main")
    git(folder, "bundle", "create", "--quiet", "../all.bundle", "main")
    content = (tmp_path / "all.bundle").read_bytes()
    (tmp_path / "clipped.bundle").write_bytes(content[:-30])
    (tmp_path / "other.bundle").write_bytes(b"# v9 git bundle\n" + content)
    said = {"part": "bundle needs other commits", "clipped": "corrupt bundle", "other": "corrupt bundle"}
    for name, reason in said.items():
        with pytest.raises(ValueError, match=reason), unbundled(tmp_path / f"{name}.bundle"):
            pass


@pytest.mark.parametrize(
    ("remote", "name", "url"),
    [
        ("https://github.com/ellison/quadrant.git", "ellison/quadrant", "https://github.com/ellison/quadrant"),
        ("git@github.com:ellison/quadrant.git", "ellison/quadrant", "https://github.com/ellison/quadrant"),
        ("https://mara:s3cret@github.com/ellison/quadrant", "ellison/quadrant", "https://github.com/ellison/quadrant"),
        ("ssh://git@code.example.org:22/tides.git", "code.example.org/tides", "https://code.example.org/tides"),
        ("/home/mara/quadrant", None, None),
        ("https://github.com/../../x", None, None),
    ],
)
def test_the_name_comes_from_where_it_was_cloned_without_a_password(remote, name, url, tmp_path):
    folder = make_repository(tmp_path / "clone")
    git(folder, "remote", "add", "origin", remote)
    repository = open_repository(folder / ".git")
    assert (repository.name, repository.url) == (name, url)


def test_nothing_a_repository_configures_is_run(tmp_path):
    folder, canary = make_repository(tmp_path / "quadrant"), tmp_path / "canary"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {canary}\n")
    program.chmod(0o755)
    blob = git(folder, "rev-parse", "HEAD:a.py")
    hooks = folder / ".git" / "hooks"
    hooks.mkdir()
    for hook in ("post-checkout", "reference-transaction", "pre-commit", "post-index-change"):
        (hooks / hook).symlink_to(program)
    for name, value in {
        "core.fsmonitor": str(program), "core.pager": str(program), "core.sshCommand": str(program),
        "core.gitProxy": str(program), "alias.ls-tree": f"!{program}", "gpg.program": str(program), "log.showSignature": "true",
        "diff.external": str(program), "core.hooksPath": str(hooks), "credential.helper": str(program),
        "extensions.partialClone": "origin", "remote.origin.promisor": "true", "remote.origin.url": f"ext::{program}",
        "protocol.ext.allow": "always", "protocol.allow": "always", "core.repositoryFormatVersion": "1",
        "filter.x.smudge": str(program), "filter.x.process": str(program),
    }.items():  # fmt: skip
        git(folder, "config", name, value)
    (folder / ".git" / "objects" / blob[:2] / blob[2:]).unlink()  # git would now ask the promisor for it
    found, _ = walk(folder / ".git")
    assert found["a.py"] == "missing object" and found["run.sh"] == FILES["run.sh"]
    assert not canary.exists()
    # the trap works: without what protects us, git runs the program
    command = ["git", "-C", str(folder), "cat-file", "-p", blob]
    subprocess.run(command, capture_output=True, timeout=60, env=os.environ | {"GIT_ALLOW_PROTOCOL": "ext"})
    assert canary.exists()


def test_a_repository_does_not_lead_elsewhere(tmp_path):
    secret = make_repository(tmp_path / "secret")
    folder = make_repository(tmp_path / "quadrant")
    alternates = folder / ".git" / "objects" / "info" / "alternates"
    alternates.parent.mkdir(exist_ok=True)
    alternates.write_text(str(secret / ".git" / "objects"))
    with pytest.raises(ValueError, match="points outside itself"):
        open_repository(folder / ".git")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / ".git").symlink_to(secret / ".git")
    assert git_directory(tmp_path / "linked") is None
    (tmp_path / "pointed").mkdir()
    (tmp_path / "pointed" / ".git").write_text(f"gitdir: {secret / '.git'}\n")
    assert git_directory(tmp_path / "pointed") is None


def test_a_corrupt_object_costs_itself(tmp_path):
    folder = make_repository(tmp_path / "quadrant")
    blob = git(folder, "rev-parse", "HEAD:a.py")
    place = folder / ".git" / "objects" / blob[:2] / blob[2:]
    place.chmod(0o644)
    place.write_bytes(place.read_bytes()[:5] + b"\0\0\0" + place.read_bytes()[8:])
    found, end = walk(folder / ".git")
    assert {name for name in EXPECTED if found[name] != EXPECTED[name]} == {"a.py"} and end == ""


def test_a_missing_tree_ends_the_walk_and_says_so(tmp_path):
    folder = make_repository(tmp_path / "quadrant")
    tree = git(folder, "rev-parse", "HEAD:größe")
    (folder / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    found, end = walk(folder / ".git")
    assert end == "corrupt repository" and found.items() <= EXPECTED.items()


def test_a_repository_without_a_commit_is_an_error(tmp_path):
    git(tmp_path, "init", "--quiet", "--template=")
    with pytest.raises(ValueError, match="missing object"):
        open_repository(tmp_path / ".git")


def test_trees_that_hold_each_other_are_given_up(tmp_path, monkeypatch):
    """Ten entries a tree, ten trees deep: ten thousand million files in a kilobyte."""
    folder = make_repository(tmp_path / "bomb")
    oid, kind = git(folder, "rev-parse", "HEAD:a.py"), "100644 blob"
    for _ in range(10):
        oid = git(folder, "mktree", stdin="".join(f"{kind} {oid}\tf{i}\n" for i in range(10)))
        kind = "040000 tree"
    git(folder, "update-ref", "HEAD", git(folder, "commit-tree", "-m", "bomb", oid))
    monkeypatch.setattr(repositories, "MAX_FILES", 2000)
    count, end = 0, ""
    try:
        for _ in walk_repository(open_repository(folder / ".git"), MOST):
            count += 1
    except ValueError as error:
        end = str(error)
    assert (count, end) == (2000, "too many files")


def test_a_hanging_git_is_not_waited_for(tmp_path, monkeypatch):
    folder = make_repository(tmp_path / "quadrant")
    monkeypatch.setattr("data_pipelines.dumps.git.SECONDS", 0.2)
    with Objects(folder / ".git") as objects, pytest.raises(ValueError, match="took too long"):
        objects.reader.until(b"\n")  # nothing was asked, so nothing comes


def test_a_machine_without_git_says_what_is_missing(tmp_path, monkeypatch):
    folder = make_repository(tmp_path / "quadrant")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="git is not installed"):
        open_repository(folder / ".git")


def test_no_spoilt_bundle_takes_long_or_raises(tmp_path):
    folder = make_repository(tmp_path / "quadrant")
    git(folder, "bundle", "create", "--quiet", "../all.bundle", "--all", "HEAD")
    seed = (tmp_path / "all.bundle").read_bytes()

    def parse(data: bytes) -> None:
        (tmp_path / "spoilt.bundle").write_bytes(data)
        try:
            with unbundled(tmp_path / "spoilt.bundle") as repository:
                for entry in walk_repository(repository, MOST):
                    entry.path.encode()
        except ValueError as error:
            assert str(error) in (
                "corrupt bundle",
                "corrupt repository",
                "bundle needs other commits",
                "missing object",
            )

    # three processes each: a tenth of what a parser of ours gets
    survive(
        parse,
        mutants([seed], MUTANTS // 10, words=[b"# v2 git bundle\n", b"-" + b"0" * 40, b"PACK", b"\n\n", b"@filter"]),
    )
