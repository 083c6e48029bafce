"""The files of a source: those a user names, and those below the folders that are named."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path


def find_files(
    paths: Sequence[str | Path] | str | Path, is_one: Callable[[str], object], kinds: str
) -> list[tuple[str, Path]]:
    """(name, path) of each file whose name `is_one` accepts; below a folder the name is the path inside it.

    In the order of the paths given, and of the sorted names below them; links and special files are not followed.
    kinds: in words, for whoever names something else. Raises FileNotFoundError for a path that is not there, ValueError
    for a file of another kind and where there is none at all."""
    found = []
    if isinstance(paths, str | Path):
        paths = [paths]
    for path in map(Path, paths):
        if path.is_dir():
            for folder, folders, names in os.walk(path):
                folders.sort()
                below = (Path(folder, name) for name in sorted(names) if is_one(name))
                found += [
                    (file.relative_to(path).as_posix(), file)
                    for file in below
                    if file.is_file() and not file.is_symlink()
                ]
        elif not path.exists():
            raise FileNotFoundError(f"{path} does not exist: name {kinds}, or folders of them")
        elif path.is_file() and is_one(path.name):
            found.append((path.name, path))
        else:
            raise ValueError(f"{path} is none of the kinds read here by its name: {kinds}")
    if not found:
        raise ValueError(f"nothing to read in {', '.join(map(str, paths)) or 'no paths'}: looked for {kinds}")
    return found


def sizes_and_times(found: Sequence[tuple[str, Path]]) -> list[tuple[str, int, int]]:
    """(name, bytes, modification time in ns) of what `find_files` found."""
    return [(name, stat.st_size, stat.st_mtime_ns) for name, path in found for stat in [path.stat()]]
