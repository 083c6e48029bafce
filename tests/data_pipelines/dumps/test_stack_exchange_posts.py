"""Threads out of more rows than memory takes: the same ones, and no file is left whatever ends the process."""

import io

from data_pipelines.account import Account
from data_pipelines.dumps.stack_exchange_posts import rows, threads

POSTS = b"<posts>%s</posts>" % b"".join(
    b'<row Id="%d" PostTypeId="1" Body="q" /><row Id="%d" PostTypeId="2" ParentId="%d" Body="a" />' % (i, 1000 + i, i)
    for i in range(1, 301)
)


def test_buckets_on_disk_give_the_same_threads_and_have_no_names(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    account = Account()
    whole = list(threads(rows(io.BytesIO(POSTS), account), len(POSTS), len(POSTS), account))
    stream = threads(rows(io.BytesIO(POSTS), account), len(POSTS), 1000, account)
    first = next(stream)
    assert not list(tmp_path.iterdir())  # a kill now would leave nothing
    assert sorted([first, *stream]) == sorted(whole) and len(whole) == 300
