"""Bring a W&B run up to date with a run's metrics.jsonl: `python -m llama_train.train.wandb_sync OUTPUT_DIR`.

metrics.jsonl is the truth and W&B a copy. A run starts this as a process of its own (wandb_run.py), so that nothing W&B
does can make a step wait; by hand it sends what an outage kept back. Either way W&B is asked which step it lacks
first, and gets the rows from there on: each step once, none missing, however often a run was killed and resumed.
`wandb sync` cannot do that: it appends a whole file to what W&B has already."""

import json
import os
import re
import secrets
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

NOTE = "wandb-run.json"  # {"id": W&B's id of this run, "online": whether W&B may have been told of it}
INIT_SECONDS, FINISH_SECONDS = 8.0, 6.0  # a run waits 9 s at its end: see wandb_run.py
SECRET = re.compile(
    r"\b(hf_|ghp_|gho_|AKIA)[a-z0-9]{16,}|\b(sk-|github_pat_|glpat-|eyJ)[\w-]{20,}"  # tokens that say whose they are
    r"|://[^/@\s]+@|[?&](x-amz-\w+|sig|signature|token|key)=",  # a user or a signature in an address
    re.IGNORECASE,
)


class Rows:
    """The rows of a metrics.jsonl that grows, and is replaced when a run goes back to a checkpoint."""

    def __init__(self, file: Path):
        self.file = file
        self._open()

    def _open(self) -> None:
        self.handle = open(self.file, "rb")  # noqa: SIM115  (while it is open, no new file gets its inode)
        self.cut = b""  # a line half-written
        self.pending: dict[int, dict[str, Any]] = {}  # by step

    def read(self, to_the_end: bool) -> list[tuple[int, dict[str, Any]]]:
        """(step, figures) of each new step below the last line's, in order; with `to_the_end` of all: more figures of
        the last line's step may come, and after a run went back also of others."""
        if os.stat(self.file).st_ino != os.fstat(self.handle.fileno()).st_ino:
            self.handle.close()
            self._open()
        *lines, self.cut = (self.cut + self.handle.read()).split(b"\n")
        last = -1
        for line in lines:
            row = json.loads(line)
            last = row.pop("step")
            self.pending.setdefault(last, {}).update(row)
        complete = sorted(step for step in self.pending if to_the_end or step < last)
        return [(step, self.pending.pop(step)) for step in complete]


def main(argv: list[str]) -> int:
    """Send `OUTPUT_DIR`'s rows; with `--follow PID` go on until that process, the training, says so or is gone.

    Returns the exit code: 0 when W&B, or its offline folder, was given all rows, 1 when it was not."""
    output_dir = Path(argv[0])
    training = int(argv[2]) if argv[1:2] == ["--follow"] else None
    offline = is_offline()
    if training is None and wandb_key_is_set():
        offline = False  # by hand nothing but sending can be meant
    try:
        if training is None and offline:
            raise ValueError("no key is set: run `wandb login`, or set WANDB_API_KEY")
        settings = read_settings(output_dir)
        note = lock_and_read_note(output_dir, wait=20.0 if training else 0.0)
        if offline and (note["online"] or any(output_dir.glob(f"wandb/offline-run-*-{note['id']}*/*.synced"))):
            say(
                f"W&B is off and may have this run's first steps already: {command(output_dir)} sends it the others later"
            )
            return 0
        if not offline:
            write_note(output_dir, note | {"online": True})
        run = start(output_dir, settings, note["id"], offline, training)
        if not offline:
            say(f"W&B: {run.url}")
        for folder in output_dir.glob(f"wandb/offline-run-*-{note['id']}*"):
            if folder != Path(run.dir).parent:
                shutil.rmtree(folder)  # its rows are all sent again: two copies would be two histories for `wandb sync`
        send(run, Rows(output_dir / "metrics.jsonl"), training)
        if offline:
            say(f"W&B is off: `wandb sync {Path(run.dir).parent}` sends the run later")
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # whatever W&B or the network comes up with: training goes on
        problem = "" if isinstance(error, ValueError) else " was not reached, the figures wait in metrics.jsonl"
        say(f"W&B{problem}: {' '.join(str(error).split())[:200]}")
        return 1


def start(output_dir: Path, settings: dict[str, Any], run_id: str, offline: bool, training: int | None) -> Any:
    """The run of this id, new or continued. Raises what W&B raises, after INIT_SECONDS at the latest."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ["WANDB_MODE"] = "offline" if offline else "online"
    import wandb

    wanted: dict[str, Any] = {
        **{"silent": True, "quiet": True, "console": "off", "init_timeout": INIT_SECONDS},
        **{"finish_timeout": FINISH_SECONDS if training else 0.0, "finish_timeout_raises": True},
        # no code, no git, no host, user, path or command line; the rows are in metrics.jsonl, not once more in a log
        **{"disable_code": True, "disable_git": True, "x_disable_meta": True, "x_save_requirements": False},
        **{
            "host": "",
            "program": "llama_train",
            "x_skip_transaction_log": not offline,
            "x_disable_stats": training is None,
        },
    }
    if training:
        wanted["x_stats_pid"] = training
    known = {key: value for key, value in wanted.items() if key in wandb.Settings.model_fields}  # some are W&B's newest
    return wandb.init(
        project=settings["project"],
        name=settings["run_name"],
        id=run_id,
        resume="allow",
        dir=str(output_dir),
        config=public(settings, os.environ),
        settings=wandb.Settings(**known),
    )


def send(run: Any, rows: Rows, training: int | None) -> None:
    """Give `run` the rows that W&B lacks, then finish it: with exit code 0 where the training has finished, else 1."""
    step, word = run.starting_step, "" if training else "finish"
    while True:
        word = word or listen(training)
        if word and training:  # before 0.27 W&B's finish() has no limit
            limit = threading.Timer(FINISH_SECONDS + 2, os._exit, [1])
            limit.daemon = True
            limit.start()
        for row_step, figures in rows.read(to_the_end=word in ("finish", "stop")):
            if row_step >= step:
                run.log(figures, step=row_step, commit=True)
                step = row_step + 1
        if word:
            run.finish(exit_code=0 if word == "finish" else 1)
            return


def listen(training: int) -> str:
    """What the training says within a second: "finish", "stop" (it ends otherwise), "gone" (it was killed), or ""."""
    if select.select([0], [], [], 1.0)[0]:
        return os.read(0, 16).decode().strip() or "gone"
    return "" if os.getppid() == training else "gone"


def public(settings: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings that W&B may know: plain values, and "(hidden)" for what holds a token, key or password."""
    hidden = [
        value
        for name, value in environment.items()
        if re.search("TOKEN(?!IZ)|KEY|SECRET|PASSW", name) and len(value) > 7
    ]

    def shown(value: Any) -> Any:
        text = str(value)
        return "(hidden)" if SECRET.search(text) or any(secret in text for secret in hidden) else value

    return {key: shown(value) for key, value in settings.items() if isinstance(value, (bool, int, float, str))}


def is_offline() -> bool:
    """Whether W&B is asked to write to disk only; so it is without a key, unless WANDB_MODE says otherwise."""
    mode = os.environ.get("WANDB_MODE")
    return mode in ("offline", "dryrun") if mode else not wandb_key_is_set()


def wandb_key_is_set() -> bool:
    """Whether W&B finds a key where it looks: in the environment or in ~/.netrc."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        named = any(name in os.environ for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"))
        return named or host in netrc(os.environ.get("NETRC")).hosts
    except (OSError, NetrcParseError):
        return False


def read_settings(output_dir: Path) -> dict[str, Any]:
    """The run's config.yaml. Raises ValueError where there is none."""
    import yaml

    if not (output_dir / "config.yaml").is_file():
        raise ValueError(f"{output_dir} is no run's output_dir: it has no config.yaml")
    return yaml.safe_load((output_dir / "config.yaml").read_text(encoding="utf-8"))


def lock_and_read_note(output_dir: Path, wait: float) -> dict[str, Any]:
    """The run's note, made where there is none. One process at a time has it, until it ends: two senders would both
    send a step. A killed run's sender may need some seconds to end: `wait` for it. Raises ValueError after that."""
    import fcntl

    (output_dir / "wandb").mkdir(exist_ok=True)
    lock = os.open(output_dir / "wandb" / ".lock", os.O_RDWR | os.O_CREAT)  # NFS locks only what can be written
    end = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                raise ValueError(f"another process is sending {output_dir}") from None
            time.sleep(0.1)
        except OSError:  # a file system without locks
            break
    if not (output_dir / NOTE).exists():
        write_note(output_dir, {"id": os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4), "online": False})
    return json.loads((output_dir / NOTE).read_text(encoding="utf-8"))


def write_note(output_dir: Path, note: dict[str, Any]) -> None:
    """Whole or not at all: a lost id would be a second W&B run."""
    (output_dir / f".{NOTE}").write_text(json.dumps(note) + "\n", encoding="utf-8")
    (output_dir / f".{NOTE}").replace(output_dir / NOTE)


def command(output_dir: Path) -> str:
    """What sends a run by hand."""
    return f"`python -m llama_train.train.wandb_sync {output_dir}`"


def say(line: str) -> None:
    """To whoever started this; it may be gone."""
    with suppress(OSError):
        print(line, flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit("usage: python -m llama_train.train.wandb_sync OUTPUT_DIR")
    if "--follow" in sys.argv:
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):  # meant for the training, which tells us
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # W&B's own handlers could wait for a server that is gone
