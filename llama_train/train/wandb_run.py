"""A run's line to W&B: a process of its own sends metrics.jsonl (wandb_sync.py), and is started again when it fails.

A process, not a thread: W&B's calls can block without limit, and only a process can be ended."""

import atexit
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from llama_train.train.wandb_sync import command

RETRY_SECONDS = 120.0
FINISH_SECONDS = 9.0


class WandbRun:
    """Keeps W&B informed of what stands in output_dir/metrics.jsonl. No call but `finish` waits for anything.

    `say` prints a line. A run that ends without `finish` (an error, a preemption) tells W&B so as Python ends."""

    def __init__(self, output_dir: Path, say: Callable[[str], None]):
        self.output_dir, self.say = output_dir, say
        self.said: set[bytes] = set()  # an outage is told once, however often W&B is tried again
        self.start()
        atexit.register(self.finish, "stop")

    def start(self) -> None:
        file = Path(__file__).with_name("wandb_sync.py")
        self.sender = subprocess.Popen(
            [sys.executable, "-P", str(file), str(self.output_dir), "--follow", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C and a scheduler's signals are for the training
        )
        os.set_blocking(self.sender.stdout.fileno(), False)
        self.heard = b""
        self.ended: float | None = None

    def poll(self) -> None:
        """Print what the sender has to say; where it failed, start it again two minutes later."""
        self._print()
        code, now = self.sender.poll(), time.monotonic()
        if code:
            self.ended = self.ended or now
            if now - self.ended > RETRY_SECONDS:
                self.start()

    def finish(self, word: str = "finish") -> None:
        """Let the sender send the rest, FINISH_SECONDS at the most; what W&B lacks then is told, with what sends it."""
        atexit.unregister(self.finish)
        end = time.monotonic() + FINISH_SECONDS
        self._print()
        if self.sender.poll():
            self.start()  # it had failed: a last try
        with suppress(OSError):  # it may have ended this moment
            os.write(self.sender.stdin.fileno(), f"{word}\n".encode())
        try:
            code = self.sender.wait(end - time.monotonic())
        except subprocess.TimeoutExpired:
            self.sender.kill()  # W&B's own process ends with it
            code = self.sender.wait()
        self._print()
        if code:
            self.say(f"W&B lacks the newest figures: {command(self.output_dir)} sends them")

    def _print(self) -> None:
        with suppress(BlockingIOError):
            while chunk := os.read(self.sender.stdout.fileno(), 4096):
                self.heard += chunk
        *lines, self.heard = self.heard.split(b"\n")
        for line in lines:
            if line not in self.said:
                self.say(line.decode())
                self.said.add(line)
