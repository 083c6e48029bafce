"""A checkpoint verifies or is not used: five hundred damaged ones, each of them noticed."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch

from llama_train.train.manifest import read_manifest, replace_file, verify, write_file, write_manifest
from llama_train.train.model_files import safetensors

MUTANTS = 500


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A folder with what a checkpoint has: weights, moments, JSON, an empty file."""
    folder = tmp_path_factory.mktemp("run") / "checkpoint-20"
    folder.mkdir()
    contents = {
        "model.safetensors": list(safetensors({"a": torch.randn(8, 16), "b": torch.randn(16)})),
        "optimizer-00000-of-00002.safetensors": list(safetensors({"a/exp_avg/0": torch.randn(64)})),
        "optimizer-00001-of-00002.safetensors": list(safetensors({"a/exp_avg/64": torch.randn(64)})),
        "trainer_state.json": [b'{"step": 20, "num_input_tokens_seen": 4096}'],
        "config.json": [b'{"model_type": "llama"}'],
        "empty": [],
    }
    entries = {name: write_file(folder / name, chunks) for name, chunks in contents.items()}
    write_manifest(folder, entries, {"step": 20, "engine": "ddp", "num_processes": 2, "versions": {"torch": "2.13.0"}})
    return folder


def mutate(folder: Path, rng: random.Random) -> str:
    """Damage one thing; the name of what was done."""
    files = sorted(path for path in folder.iterdir() if path.stat().st_size)
    file, other = rng.sample(files, 2)
    content = bytearray(file.read_bytes())
    kind = rng.choice(["flip a bit", "truncate", "delete", "swap", "grow", "zero"])
    if kind == "flip a bit":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "truncate":
        content = content[: rng.randrange(len(content))]
    elif kind == "grow":
        content += bytes(rng.randrange(1, 9))
    elif kind == "zero":
        start = rng.randrange(len(content))
        content[start:] = bytes(len(content) - start)
    elif kind == "delete":
        file.unlink()
        return f"{kind} {file.name}"
    else:
        file.rename(folder / "aside")
        other.rename(file)
        (folder / "aside").rename(other)
        return f"{kind} {file.name} {other.name}"
    if content == file.read_bytes():  # zeros were zeros already
        content[0] ^= 1
    file.write_bytes(content)
    return f"{kind} {file.name}"


def test_a_good_one_has_no_problems(good):
    assert verify(good) == []
    assert verify(good, (0, 2)) == verify(good, (1, 2)) == []


def test_every_mutant_is_noticed(good, tmp_path):
    rng = random.Random(0)
    missed, kinds = [], set()
    for number in range(MUTANTS):
        folder = tmp_path / str(number) / "checkpoint-20"
        shutil.copytree(good, folder)
        done = mutate(folder, rng)
        kinds.add(done.rsplit(" ", 1)[0] if done.startswith("flip") else done.split()[0])
        if not verify(folder):
            missed.append(done)
        shutil.rmtree(folder.parent)
    assert missed == []
    assert kinds >= {"truncate", "delete", "swap", "flip a bit"}


def test_two_readers_share_the_work_and_miss_nothing(good, tmp_path):
    for name in read_manifest(good)["files"]:
        folder = tmp_path / name / "checkpoint-20"
        shutil.copytree(good, folder)
        (folder / name).write_bytes(b"something else")
        found = [verify(folder, (reader, 2)) for reader in (0, 1)]
        assert [bool(problems) for problems in found].count(True) == 1
        assert name in str(found)


def test_another_step_s_folder_is_not_that_step_s(good, tmp_path):
    shutil.copytree(good, tmp_path / "checkpoint-40")
    assert verify(tmp_path / "checkpoint-40") == ["it holds step 20"]
    shutil.copytree(good, tmp_path / "mine")  # a copy by another name is still good
    assert verify(tmp_path / "mine") == []


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"sha256": 1}', "[" * 100_000, "\xff"])
def test_whatever_is_called_a_manifest_is_an_answer_not_a_crash(good, tmp_path, text):
    shutil.copytree(good, tmp_path / "checkpoint-20")
    (tmp_path / "checkpoint-20" / "manifest.json").write_text(text, encoding="latin-1")
    assert "manifest.json is broken" in verify(tmp_path / "checkpoint-20")[0]


def test_a_manifest_of_a_later_format_is_not_guessed_at(good, tmp_path):
    entries = read_manifest(good)["files"]
    shutil.copytree(good, tmp_path / "checkpoint-20")
    write_manifest(tmp_path / "checkpoint-20", entries, {"step": 20, "format": 2})
    assert verify(tmp_path / "checkpoint-20") == ["manifest.json has format 2, this version reads 1"]


def test_a_name_in_the_manifest_does_not_lead_out_of_the_folder(good, tmp_path):
    (tmp_path / "secret").write_text("x")
    shutil.copytree(good, tmp_path / "checkpoint-20")
    write_manifest(tmp_path / "checkpoint-20", {"../secret": {"bytes": 1, "sha256": "0" * 64}}, {"step": 20})
    assert "../secret is not the name of a file" in verify(tmp_path / "checkpoint-20")


@pytest.mark.parametrize("name", ["optimizer-00000-of-00000.safetensors", "adapter_config.json", "pytorch_model.bin"])
def test_what_could_be_loaded_and_is_not_named_does_not_belong(good, tmp_path, name):
    shutil.copytree(good, tmp_path / "checkpoint-20")
    (tmp_path / "checkpoint-20" / "README.md").write_text("mine")
    assert verify(tmp_path / "checkpoint-20") == []
    (tmp_path / "checkpoint-20" / name).write_bytes(b"{}")
    assert verify(tmp_path / "checkpoint-20") == [f"{name} does not belong to it"]


def test_a_file_is_replaced_at_once(tmp_path):
    replace_file(tmp_path / "latest", "checkpoint-2\n")
    replace_file(tmp_path / "latest", "checkpoint-4\n")
    assert (tmp_path / "latest").read_text() == "checkpoint-4\n"
    assert [path.name for path in tmp_path.iterdir()] == ["latest"]


def test_the_manifest_is_plain_json(good):
    content = json.loads((good / "manifest.json").read_text())
    assert content["files"]["config.json"] == {
        "bytes": 23,
        "sha256": "81dddc8c379baae137d99d24c5fa081d3a5ce52b6a221ddc22fe364711f8beaf",
    }
