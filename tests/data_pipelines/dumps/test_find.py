"""Finding files: the same names wherever a folder lies, in one order, links and special files left alone."""

import os

import pytest

from data_pipelines.dumps.find import find_files, sizes_and_times


def is_text(name):
    return name.endswith(".txt")


def test_names_are_those_below_the_folder_in_a_fixed_order(tmp_path):
    for name in ("b/z.txt", "a/y.txt", "c.txt", "c.md", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("12345")
    (tmp_path / "link.txt").symlink_to(tmp_path / "c.txt")
    (tmp_path / "d").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "folder.txt").mkdir()
    found = find_files([str(tmp_path), tmp_path / "c.txt"], is_text, "texts")
    assert [name for name, _ in found] == ["a.txt", "c.txt", "a/y.txt", "b/z.txt", "c.txt"]
    stat = (tmp_path / "a.txt").stat()
    assert find_files(str(tmp_path / "c.txt"), is_text, "texts") == found[-1:], "a single path is no list of letters"
    assert sizes_and_times(found)[0] == ("a.txt", 5, stat.st_mtime_ns)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("gone.txt", FileNotFoundError, "gone.txt does not exist: name texts, or folders of them"),
        ("a.md", ValueError, "a.md is none of the kinds read here by its name: texts"),
        ("pipe.txt", ValueError, "pipe.txt is none of the kinds"),
        ("empty", ValueError, "nothing to read in .*empty: looked for texts"),
    ],
)
def test_what_cannot_be_read_is_named(path, error, message, tmp_path):
    (tmp_path / "a.md").touch()
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(error, match=message):
        find_files([tmp_path / path], is_text, "texts")


def test_no_path_at_all_is_said():
    with pytest.raises(ValueError, match="nothing to read in no paths"):
        find_files([], is_text, "texts")
