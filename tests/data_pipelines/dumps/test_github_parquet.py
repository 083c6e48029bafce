"""A Parquet export: some broken files make Arrow end the process that reads them, which must not be ours."""

from pathlib import Path

import pytest

from data_pipelines.dumps.github_parquet import read_through, walk_rows
from data_pipelines.pool import Failure, run_guarded
from tests.data_pipelines.fuzz import MUTANTS, mutants

EXPORT = Path(__file__).parents[3] / "data_pipelines" / "samples" / "github" / "github.parquet"


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """Spoilt files, and what became of reading each in another process."""
    folder = tmp_path_factory.mktemp("spoilt")
    paths = []
    for number, data in enumerate(mutants([EXPORT.read_bytes()], MUTANTS, words=[b"PAR1", b"MIT", b"\0" * 512])):
        paths.append(folder / f"{number}.parquet")
        paths[-1].write_bytes(data)
    return list(run_guarded(read_through, paths, seconds=10, megabytes=1024))


def test_no_spoilt_file_does_more_than_crash_its_own_process(spoilt):
    reasons = {result.reason for _, result in spoilt if isinstance(result, Failure)}
    assert reasons <= {"crashed the parser", "needed more than 1024 MB"}


def test_a_file_that_ends_arrow_s_process_ends_as_an_error(tmp_path):
    data = bytearray(EXPORT.read_bytes())
    place = data.index(b"\x25\x02\x18\x04mode") + 1  # of the schema's column "mode": whether it may be missing
    data[place] = 18  # no such thing: pyarrow 26 says "Definition level histogram size mismatch" and aborts
    (tmp_path / "a.parquet").write_bytes(data)
    [(_, outcome)] = run_guarded(read_through, [tmp_path / "a.parquet"])
    if outcome == Failure("crashed the parser"):
        with pytest.raises(ValueError, match="^corrupt Parquet file$"):
            list(walk_rows(tmp_path / "a.parquet"))
    else:
        assert list(walk_rows(tmp_path / "a.parquet"))


def test_a_good_file_is_read_in_whole():
    assert len(list(walk_rows(EXPORT))) > 5
