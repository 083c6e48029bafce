"""Token shards: a folder of flat little-endian integers, opened as memory maps, with the place of every document.

In the folder:
    manifest.json         counts, tokenizer fingerprint, sha256 of each pair of shard files
    tokens-00000.bin      uint16 (uint32 above 65,536 ids): document after document, each <bos> text <eos>
    documents-00000.bin   int64: where each document starts inside its shard; no document is split over two shards
    token_bytes.npy       uint16 (vocab_size,): UTF-8 bytes of each id, 0 for special tokens, for bits per byte
"""

import hashlib
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

FORMAT = 1


def _sha256(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _close_durably(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()


class ShardWriter:
    """Writes a folder of shards; `with ShardWriter(...) as writer: writer.add(ids, text_bytes)`.

    Everything goes to `<out>.partial`, which takes the name `out` when the block ends well: a folder called `out` is
    always whole, and `writer.manifest` then says what it holds. `tokenizer` holds sha256, bos_token_id, eos_token_id,
    and dummy_prefix where a space that is not a document's stands before it. A new shard starts where the next document
    would carry the open one past `shard_tokens`.

    Raises OSError where `out` exists already, ValueError for ids outside the vocabulary or no documents at all.
    """

    def __init__(
        self,
        out: Path,
        vocab_size: int,
        tokenizer: dict[str, Any],
        token_bytes: np.ndarray,
        shard_tokens: int = 2**28,
    ) -> None:
        if len(token_bytes) != vocab_size:
            raise ValueError(f"token_bytes has {len(token_bytes)} entries for a vocabulary of {vocab_size}")
        self.out, self.staging = out, out.with_name(out.name + ".partial")
        self.vocab_size, self.tokenizer, self.token_bytes = vocab_size, tokenizer, token_bytes
        self.dtype = np.dtype("<u2" if vocab_size <= 65536 else "<u4")
        self.shard_tokens = shard_tokens
        self.shards: list[dict[str, Any]] = []
        self.text_bytes = 0

    def __enter__(self) -> "ShardWriter":
        if self.out.exists():
            raise FileExistsError(f"{self.out} exists already: remove it or write somewhere else")
        if self.staging.exists():
            shutil.rmtree(self.staging)
        self.staging.mkdir(parents=True)
        self._open_shard()
        return self

    def add(self, ids: Any, text_bytes: int) -> None:
        """Append one document: its ids from <bos> to <eos>, and how many UTF-8 bytes of text they stand for."""
        ids = np.asarray(ids)
        bos, eos = self.tokenizer["bos_token_id"], self.tokenizer["eos_token_id"]
        if len(ids) < 2 or ids[0] != bos or ids[-1] != eos:
            raise ValueError(f"a document must run from <bos> ({bos}) to <eos> ({eos}), not {ids[:1]} to {ids[-1:]}")
        if ids.min() < 0 or ids.max() >= self.vocab_size:
            raise ValueError(f"token ids {ids.min()} to {ids.max()} do not fit a vocabulary of {self.vocab_size}")
        if self.starts and self.filled + len(ids) > self.shard_tokens:
            self._close_shard()
            self._open_shard()
        self.starts.append(self.filled)
        self.filled += len(ids)
        self.text_bytes += text_bytes
        self.file.write(ids.astype(self.dtype).tobytes())

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None:
            with suppress(OSError):  # a full disk says so again when what is buffered is flushed
                self.file.close()
            shutil.rmtree(self.staging, ignore_errors=True)
            return
        self._close_shard()
        totals = {key: sum(shard[key] for shard in self.shards) for key in ("tokens", "documents")}
        if not totals["tokens"]:
            shutil.rmtree(self.staging)
            raise ValueError(f"no documents to write to {self.out}: the text is empty")
        with (self.staging / "token_bytes.npy").open("wb") as file:
            np.save(file, self.token_bytes.astype(np.uint16))
            _close_durably(file)
        self.manifest = {
            "format": FORMAT,
            "dtype": "uint16" if self.dtype.itemsize == 2 else "uint32",
            "vocab_size": self.vocab_size,
            **totals,
            "bytes": self.text_bytes,
            "tokenizer": self.tokenizer,
            "shards": self.shards,
        }
        with (self.staging / "manifest.json").open("wb") as file:
            file.write((json.dumps(self.manifest, indent=2) + "\n").encode())
            _close_durably(file)
        self.staging.rename(self.out)

    def _open_shard(self) -> None:
        self.file = (self.staging / f"tokens-{len(self.shards):05d}.bin").open("wb")
        self.starts: list[int] = []
        self.filled = 0

    def _close_shard(self) -> None:
        _close_durably(self.file)
        tokens = Path(self.file.name)
        documents = tokens.with_name(f"documents-{len(self.shards):05d}.bin")
        with documents.open("wb") as file:
            file.write(np.asarray(self.starts, dtype="<i8").tobytes())
            _close_durably(file)
        self.shards.append(
            {
                "tokens_file": tokens.name,
                "documents_file": documents.name,
                "tokens": self.filled,
                "documents": len(self.starts),
                "sha256": _sha256(tokens, documents),
            }
        )


class Shards:
    """A folder of token shards as one stream of `len(shards)` tokens.

    Opening checks the manifest and every file's size; `verify` reads every byte. Raises FileNotFoundError for a folder
    or file that is not there, ValueError for a file of another size, another format number or no tokens.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.manifest: dict[str, Any] = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path} holds no token shards (no manifest.json): run `llama-data build --out DIR` first"
            ) from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.path / 'manifest.json'} is broken ({error}): build the shards again") from None
        if self.manifest.get("format") != FORMAT:
            raise ValueError(f"{self.path} has shard format {self.manifest.get('format')}; this version reads {FORMAT}")
        if not self.manifest["tokens"]:
            raise ValueError(f"{self.path} holds no tokens: build the shards again from text that is not empty")
        dtype = np.dtype(self.manifest["dtype"]).newbyteorder("<")
        shards = self.manifest["shards"]
        self._tokens = [self._map(s["tokens_file"], dtype, s["tokens"]) for s in shards]
        self._documents = [self._map(s["documents_file"], np.dtype("<i8"), s["documents"]) for s in shards]
        self._offsets = np.cumsum([0, *(s["tokens"] for s in shards)])  # (shards + 1,) where each shard begins
        self.token_bytes: np.ndarray = np.load(self._file("token_bytes.npy"), allow_pickle=False)
        self.vocab_size: int = self.manifest["vocab_size"]
        self.tokenizer: dict[str, Any] = self.manifest["tokenizer"]

    @property
    def fingerprint(self) -> str:
        """sha256 over the shards' own: the same tokens in the same order have the same."""
        return hashlib.sha256("".join(shard["sha256"] for shard in self.manifest["shards"]).encode()).hexdigest()

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def __reduce__(self) -> tuple[type["Shards"], tuple[Path]]:
        return Shards, (self.path,)  # a data worker maps the files itself: pickling a memory map would copy it

    def tokens(self, start: int, stop: int) -> np.ndarray:
        """Ids of the stream's tokens [start, stop), int64, across shard borders."""
        parts = [
            self._tokens[i][max(start - int(self._offsets[i]), 0) : stop - int(self._offsets[i])]
            for i in self._touched(start, stop)
        ]
        return np.concatenate(parts).astype(np.int64)

    def document_starts(self, start: int, stop: int) -> np.ndarray:
        """Places in [start, stop) of the stream where a document starts, int64, ascending."""
        parts = [np.empty(0, dtype=np.int64)]
        for i in self._touched(start, stop):
            offset, documents = self._offsets[i], self._documents[i]
            first, last = np.searchsorted(documents, [start - offset, stop - offset])
            parts.append(documents[first:last] + offset)
        return np.concatenate(parts)

    def verify(self) -> None:
        """Read every byte; raises ValueError naming the first shard whose sha256 is not the manifest's."""
        for shard in self.manifest["shards"]:
            if _sha256(self.path / shard["tokens_file"], self.path / shard["documents_file"]) != shard["sha256"]:
                raise ValueError(f"{self.path / shard['tokens_file']} is corrupted (sha256): build the shards again")

    def _touched(self, start: int, stop: int) -> range:
        if not 0 <= start < stop <= len(self):
            raise IndexError(f"tokens {start} to {stop} are outside the stream of {len(self)}")
        first = int(np.searchsorted(self._offsets, start, side="right")) - 1
        return range(first, int(np.searchsorted(self._offsets, stop, side="left")))

    def _file(self, name: str) -> Path:
        if not (path := self.path / name).is_file():
            raise FileNotFoundError(f"{path} is missing: build the shards again")
        return path

    def _map(self, name: str, dtype: np.dtype, count: int) -> np.ndarray:
        path = self._file(name)
        if path.stat().st_size != count * dtype.itemsize:
            raise ValueError(
                f"{path} has {path.stat().st_size} bytes where the manifest says {count * dtype.itemsize}: "
                "build the shards again"
            )
        return np.memmap(path, dtype=dtype, mode="r", shape=(count,))
