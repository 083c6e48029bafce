"""How a command ends badly: one line on stderr and an exit code, never a traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

DEBUG = "LLAMA_TRAIN_DEBUG"
PREEMPTED = 75  # exit code: stopped by SIGTERM or SIGUSR1, saved; start again to go on (sysexits' EX_TEMPFAIL)
HUNG = 70  # exit code: a process hung; start again to go on from the newest checkpoint (sysexits' EX_SOFTWARE)
FOR_PEOPLE = (ValueError, OSError, FloatingPointError, ImportError, MemoryError)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors meant for people into `error: ...` and exit code 1; Ctrl-C into 130.

    Of several processes only the first (RANK 0) begins so, the others name themselves: `error (process 3): ...`.

    Those are ValueError, OSError, FloatingPointError, ImportError, MemoryError and a library's Rust giving up, which has
    printed lines of its own by then; anything else is a fault of ours and keeps its traceback, as all do with
    LLAMA_TRAIN_DEBUG=1.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f"{label()}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # the reader, such as `head`, has seen enough; Python would complain again while it closes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except BaseException as error:
        rust = type(error).__name__ == "PanicException"  # pyo3's, a BaseException that no module exports
        if not (rust or isinstance(error, FOR_PEOPLE)) or os.environ.get(DEBUG) == "1":
            raise
        print(f"{label()}: {_one_line(error)}", file=sys.stderr)
        raise SystemExit(1) from None


def label() -> str:
    """How this process' errors begin."""
    rank = os.environ.get("RANK") or "0"
    return "error" if rank == "0" else f"error (process {rank})"


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
