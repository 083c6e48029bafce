"""Shards at a URL: the same bytes on this machine, once, whatever breaks off on the way; and one line for each mistake."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pytest

from llama_train.data import remote, remote_copy
from llama_train.data.remote import is_url, redact, stage, stage_tokenizer, with_local_shards
from llama_train.data.shards import Shards, ShardWriter
from llama_train.settings import PretrainSettings
from tests.data.web_server import serve


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    """Three shards of 40,000 bytes and more, and the tokenizer beside them."""
    folder = tmp_path_factory.mktemp("origin")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    (folder / "tokenizer" / "tokenizer_config.json").write_text('{"a": 1}')
    sha256 = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # of "{}"
    about = {"sha256": sha256, "bos_token_id": 94, "eos_token_id": 95}
    generator = np.random.default_rng(0)
    with ShardWriter(folder / "train", 96, about, np.ones(96), shard_tokens=20_000) as writer:
        for _ in range(600):
            writer.add([94, *generator.integers(94, size=98), 95], 98)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """A cache of this test's own; no pauses; requests smaller than a file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_copy, "PAUSES", (0.0,))
    monkeypatch.setattr(remote_copy, "BLOCK", 4096)
    return tmp_path / "cache" / "llama_train" / "shards"


@pytest.fixture
def memory(origin) -> Iterator[Any]:
    """The origin at memory://bucket."""
    fs = fsspec.filesystem("memory")
    fs.put(str(origin), "/bucket", recursive=True)
    yield fs
    fs.rm("/bucket", recursive=True)


@pytest.fixture
def server(origin) -> Iterator[Any]:
    """The origin on a web server; `server.url` is its address."""
    pytest.importorskip("aiohttp")
    with serve(origin) as server:
        yield server


def same(folder: Path, origin: Path) -> bool:
    Shards(folder).verify()
    names = {file.name for file in (origin / "train").iterdir()}
    assert {file.name for file in folder.iterdir()} == names
    return all((folder / name).read_bytes() == (origin / "train" / name).read_bytes() for name in names)


@pytest.mark.parametrize("kind", ["memory", "file", "http", "http without ranges"])
def test_the_bytes_are_the_same(kind, origin, memory, server):
    server.ranges = kind == "http"
    url = {"memory": "memory://bucket", "file": origin.as_uri()}.get(kind, server.url) + "/train/"
    assert same(stage(url), origin)


def test_what_is_here_is_not_copied_again(origin, memory, server):
    folder = stage(f"{server.url}/train")
    server.asked.clear()
    assert stage(f"{server.url}/train") == folder
    assert {name for name, _ in server.asked} == {"manifest.json"}
    assert stage("memory://bucket/train") == folder, "the same shards at another address"


def test_other_shards_at_the_same_address_are_other_shards(memory, cache):
    before = stage("memory://bucket/train")
    manifest = json.loads(memory.cat_file("/bucket/train/manifest.json"))
    memory.pipe_file("/bucket/train/manifest.json", json.dumps(manifest | {"shards": manifest["shards"][:1]}).encode())
    assert stage("memory://bucket/train") != before


def test_a_copy_that_broke_off_is_taken_up_where_it_was(origin, server, cache, monkeypatch):
    monkeypatch.setattr(remote_copy, "STREAMS", 1)
    server.breaks_at = 20_000
    with pytest.raises(OSError, match=f"^{server.url}/train cannot be copied here: "):
        stage(f"{server.url}/train")
    (part,) = cache.glob("*.partial/tokens-00000.bin.part")
    assert 8_000 <= (have := part.stat().st_size) <= 20_000
    assert [path.name for path in cache.iterdir() if len(path.name) == 64] == [], "no folder that looks whole"
    server.breaks_at = None
    server.asked.clear()
    assert same(stage(f"{server.url}/train"), origin)
    assert min(first for name, first in server.asked if name == "tokens-00000.bin") == have


def test_a_short_break_goes_unnoticed(origin, memory, monkeypatch):
    """Of each file the first attempt breaks off in the middle."""
    seen = set()

    def breaking_open(path: str, mode: str, **_: object):
        content = memory.cat_file(path)
        first, _ = path not in seen, seen.add(path)
        return io.BytesIO(content[:100] if first else content)

    monkeypatch.setattr(memory, "open", breaking_open)
    folder = stage("memory://bucket/train")
    monkeypatch.undo()
    assert len(seen) == 2 * len(Shards(folder).manifest["shards"]) and same(folder, origin)


def test_a_copy_that_went_bad_is_made_again(origin, memory, cache):
    sha256 = stage("memory://bucket/train").name
    partial_ = cache / f"{sha256}.partial"
    (cache / sha256).rename(partial_)
    (partial_ / "tokens-00001.bin").rename(partial_ / "tokens-00001.bin.part")
    content = bytearray((partial_ / "tokens-00001.bin.part").read_bytes())
    content[1000] ^= 1
    (partial_ / "tokens-00001.bin.part").write_bytes(content)
    assert same(stage("memory://bucket/train"), origin)


@pytest.mark.parametrize("name", ["tokens-00002.bin", "documents-00001.bin"])
def test_shards_corrupted_there_are_named_and_not_used(name, memory, cache):
    content = bytearray(memory.cat_file(f"/bucket/train/{name}"))
    content[800] ^= 1
    memory.pipe_file(f"/bucket/train/{name}", bytes(content))
    with pytest.raises(
        OSError, match=rf"^memory://bucket/train cannot be copied here: .*{name}.* corrupted there \(sha256\)"
    ):
        stage("memory://bucket/train")
    assert not [path for path in cache.iterdir() if len(path.name) == 64]


STAGE = "import sys; from llama_train.data.remote import stage; print(stage(sys.argv[1]))"


def start(url: str, root: Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.Popen(
        [sys.executable, "-c", STAGE, url], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_of_two_processes_one_copies_and_the_other_waits(origin, server, root):
    both = [start(f"{server.url}/train", root) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len({out.splitlines()[-1] for out, _ in said}) == 1
    assert sum("copying" in out for out, _ in said) == 1
    fetched = [name for name, _ in server.asked if name != "manifest.json"]
    assert len(fetched) == len(set(fetched)) > 6, "each file once"
    assert same(Path(said[0][0].splitlines()[-1]), origin)


def test_when_the_one_that_copies_is_killed_the_other_goes_on(origin, server, root):
    server.hold = threading.Event()
    first = start(f"{server.url}/train", root)
    assert server.held.wait(60)
    second = start(f"{server.url}/train", root)
    with pytest.raises(subprocess.TimeoutExpired):  # it waits, and asks for nothing
        second.wait(4)
    assert sum(name == "manifest.json" for name, _ in server.asked) == 2
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    held, server.hold = server.hold, None
    held.set()
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert same(Path(out.splitlines()[-1]), origin)


# --- the settings ---


def test_settings_point_to_this_machine_and_to_the_tokenizer_beside_the_shards(memory, cache):
    given = PretrainSettings(dataset_path="memory://bucket/train", eval_dataset_path="memory://bucket/train/")
    found = with_local_shards(given)
    assert found.dataset_path == found.eval_dataset_path == str(stage("memory://bucket/train"))
    assert {file.name for file in Path(found.tokenizer_name_or_path).iterdir()} == {
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert given.dataset_path == "memory://bucket/train"
    local = PretrainSettings(dataset_path="data/train", tokenizer_name_or_path="data/tokenizer")
    assert with_local_shards(local) == local


def test_a_tokenizer_may_lie_elsewhere_and_one_that_made_other_shards_is_not_taken(memory):
    memory.pipe_file("/bucket/tokenizer/tokenizer.json", b'{"another": 1}')
    assert with_local_shards(PretrainSettings(dataset_path="memory://bucket/train")).tokenizer_name_or_path is None
    given = PretrainSettings(dataset_path="memory://bucket/train", tokenizer_name_or_path="memory://bucket/tokenizer")
    assert Path(with_local_shards(given).tokenizer_name_or_path, "tokenizer.json").read_text() == '{"another": 1}'
    memory.rm("/bucket/tokenizer/tokenizer.json")
    assert stage_tokenizer("memory://bucket/tokenizer") is None
    with pytest.raises(FileNotFoundError, match=r"tokenizer_name_or_path: there is no tokenizer\.json in memory://"):
        with_local_shards(given)


@pytest.mark.parametrize("name", remote.LOCAL_ONLY)
def test_what_must_be_a_folder_may_not_be_a_url(name):
    with pytest.raises(ValueError, match=f"^{name}: s3://bucket/run is a URL, it must be a folder of this machine$"):
        with_local_shards(
            SimpleNamespace(**dict.fromkeys(remote.LOCAL_ONLY) | {name: "s3://someone:secret@bucket/run"})
        )


def test_urls_are_told_from_folders():
    assert is_url("s3://bucket/train") and is_url("gs://a") and is_url("file:///data")
    assert not (is_url(None) or is_url("data/train") or is_url("/data/train") or is_url("C:\\data"))


# --- mistakes ---


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(ImportError, match=r"^s3:// needs a package that is not installed .*: pip install s3fs$"):
        stage("s3://bucket/train")


def test_an_unknown_protocol_is_named():
    with pytest.raises(ValueError, match="Protocol not known: nosuch"):
        stage("nosuch://bucket/train")


def test_a_missing_folder_is_named(memory, server):
    for url in ("memory://bucket/nowhere", f"{server.url}/nowhere"):
        with pytest.raises(FileNotFoundError, match=f"^{url} holds no token shards"):
            stage(url)
    memory.rm("/bucket/train/tokens-00001.bin")
    with pytest.raises(FileNotFoundError, match="or lacks a file it names"):
        stage("memory://bucket/train")


@pytest.mark.parametrize(
    "error",
    [PermissionError("Access Denied"), RuntimeError("Unable to locate credentials"), OSError("403, message='x'")],
)
def test_missing_credentials_are_named_and_none_is_printed(error, memory, monkeypatch):
    said = f"{error} at https://someone:secret-a@host/x and https://host/y?X-Amz-Signature=secret-b"

    def refuse(*_: object) -> None:
        raise type(error)(said)

    monkeypatch.setattr(memory, "cat_file", refuse)
    with pytest.raises(OSError, match="no credentials that open it: S3 reads AWS_ACCESS_KEY_ID") as raised:
        stage("memory://bucket/train")
    assert "secret" not in str(raised.value) and "https://host/x and https://host/y" in str(raised.value)


@pytest.mark.parametrize("url", ["s3://key:secret/with@bucket/train", "https://host/train?token=secret"])
def test_a_url_with_a_secret_is_refused_without_showing_it(url):
    with pytest.raises(ValueError, match="a URL with a password or a query in it") as raised:
        stage(url)
    assert "secret" not in str(raised.value)
    assert (
        redact("hf://datasets/a/b@main and abfs://box@account/x") == "hf://datasets/a/b@main and abfs://box@account/x"
    )


def test_a_full_disk_is_known_before_a_byte_is_copied(memory, cache, monkeypatch):
    monkeypatch.setattr(remote_copy.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(
        OSError,
        match=r"memory://bucket/train cannot be copied here: they take 0\.0 GB.* XDG_CACHE_HOME to a larger disk",
    ):
        stage("memory://bucket/train")
    assert not list(cache.rglob("*.part"))


@pytest.mark.parametrize("name", ["../../tokens.bin", "/etc/tokens.bin", "tokens.sh", "..bin"])
def test_a_manifest_cannot_write_elsewhere(name, memory):
    manifest = json.loads(memory.cat_file("/bucket/train/manifest.json"))
    manifest["shards"][0]["tokens_file"] = name
    memory.pipe_file("/bucket/train/manifest.json", json.dumps(manifest).encode())
    with pytest.raises(ValueError, match=r"manifest\.json is broken .* is not the name of a shard"):
        stage("memory://bucket/train")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"shards": [{}]}', '{"shards": [3]}', '{"shards": []}'])
def test_a_broken_manifest_is_one_line(text, memory):
    memory.pipe_file("/bucket/train/manifest.json", text.encode())
    with pytest.raises(ValueError, match=r"^memory://bucket/train/manifest\.json is broken "):
        stage("memory://bucket/train")
