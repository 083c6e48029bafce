"""Two machines on one: two launchers with one process each, over 127.0.0.1."""

import os
import socket
import subprocess
import sys
from pathlib import Path

NODE = ["recipes/launch/node.py"]
ACCELERATE = ["-m", "accelerate.commands.launch"]


def start(
    root: Path,
    config: str,
    *words: str,
    launcher: list[str] = ACCELERATE,
    own: tuple[list[str], list[str]] = ([], []),
    folders: tuple[Path, Path] | None = None,
) -> list[subprocess.Popen]:
    """Start both launchers; `own` are words for one machine alone, `folders` its working directory."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    first, *rest = launcher
    launched = []
    for rank in range(2):
        command = [sys.executable, str(root / first) if first.endswith(".py") else first, *rest]
        command += ["--config_file", str(root / config), "--num_machines", "2", "--num_processes", "2"]
        command += ["--machine_rank", str(rank), "--main_process_ip", "127.0.0.1", "--main_process_port", port]
        command += ["--deepspeed_multinode_launcher", "standard", *words, *own[rank]]
        launched.append(
            subprocess.Popen(
                command,
                cwd=folders[rank] if folders else root,
                env=os.environ | {"PYTHONPATH": str(root)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return launched


def finish(launched: list[subprocess.Popen], seconds: float = 150) -> list[str]:
    """What each machine said, once both have ended."""
    try:
        return [run.communicate(timeout=seconds)[0] for run in launched]
    finally:
        for run in launched:
            run.kill()
