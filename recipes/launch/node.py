"""One node's `accelerate launch`, for runs that outlive faults: signals arrive, restarts meet, exit codes come through.

python recipes/launch/node.py [options of accelerate launch] recipes/pretrain.py RECIPE.yaml [--key value]..."""

import os
import sys

from accelerate.commands.launch import main
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from llama_train.errors import PREEMPTED

SETTINGS = {  # of torch's agent, which starts the processes
    # it hands these on to its processes; one that is not named here would end it and leave them behind
    "PET_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
    # seconds from such a signal to SIGKILL, long enough for a checkpoint; torch 2.11 always takes 30
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "900",
    # after a restart, a store that outlived it would give out the addresses of the dead; needs --rdzv_backend c10d
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
}


def exit_code(error: ChildFailedError) -> int:
    """The exit code of the process that failed first, as a shell has it: 128 + N where signal N ended it."""
    code = error.get_first_failure()[1].exitcode
    return code if code > 0 else 128 - code


if __name__ == "__main__":
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    try:
        main()
    except SignalException:  # its processes had their time to save
        sys.exit(PREEMPTED)
    except ChildFailedError as error:  # they have said why; Accelerate's own exit code would be 1
        sys.exit(exit_code(error))
