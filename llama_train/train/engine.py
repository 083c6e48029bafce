"""The engine: one process, DDP, DeepSpeed ZeRO or FSDP2 through Accelerate, exactly as it was asked for, or an error.

Accelerate falls back without a word on a machine without GPU: its FSDP plugin is ignored, `--cpu --num_processes 2`
starts one process, `Accelerator(cpu=True)` forgets DeepSpeed. So what was asked for is read from the environment the
launcher leaves (`asked`), and compared with what came up. Precision, accumulation and clipping belong to the run's
YAML alone."""

import importlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from llama_train.train.tracking import tracker_names

if TYPE_CHECKING:
    from accelerate import Accelerator

    from llama_train.settings import PretrainSettings


def asked(environment: Mapping[str, str]) -> tuple[str, int]:
    """The engine and the number of processes that the launcher was told to start, e.g. ("zero2", 2).

    Raises ValueError where several processes were asked for and one was started, as `accelerate launch --cpu
    --num_processes 2` does."""
    processes = int(environment.get("WORLD_SIZE", 1))
    launched = "ACCELERATE_MIXED_PRECISION" in environment
    if (
        launched
        and "WORLD_SIZE" not in environment
        and "MASTER_ADDR" in environment
        and "SLURM_JOB_ID" not in environment
    ):
        raise ValueError(
            "several processes were asked for, but `accelerate launch` with a CPU configuration starts only one: "
            "use --config_file recipes/accelerate/ddp.yaml (or accelerate_config.yaml for ZeRO) with --num_processes N"
        )
    if environment.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
        return f"zero{_zero_stage(environment)}", processes
    if environment.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        return f"fsdp{environment.get('FSDP_VERSION', '1')}", processes
    return ("ddp" if processes > 1 else "single"), processes


def build_accelerator(settings: "PretrainSettings", accumulation: int) -> "Accelerator":
    """An Accelerator that runs what the launcher and the settings ask for.

    accumulation: micro-batches per optimizer step. Also sets the thread count, since `accelerate launch` sets
    OMP_NUM_THREADS=1. Raises ValueError when the launcher's precision, accumulation or clipping disagrees with the
    settings, when a GPU-only engine meets a machine without GPU, and when Accelerate brings up another engine."""
    engine, processes = asked(os.environ)
    cpu = settings.use_cpu or not torch.cuda.is_available()
    check_launcher_agrees(settings, accumulation, os.environ)
    if cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # Accelerate imports DeepSpeed even where it is not used
        _set_threads(settings.cpu_threads)
        if engine.startswith("fsdp"):
            raise ValueError(
                f"{engine} needs GPUs: on CPU Accelerate would ignore it and train {processes} unsynchronised models; "
                "use recipes/accelerate/ddp.yaml or accelerate_config.yaml (ZeRO), which run on CPU"
            )
    else:
        torch.set_float32_matmul_precision("high")  # TF32 for what stays fp32

    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    if dist.is_available():
        # its functions' defaults are the world as it is when it is first imported: before there is one, or the world's
        # threads outlive it and may abort the interpreter while it exits, after a run that went well
        importlib.import_module("torch.distributed.nn.functional")
    _meet_again()
    options: dict[str, Any] = {
        "gradient_accumulation_steps": accumulation,
        "log_with": tracker_names(settings) or None,
        "project_dir": settings.output_dir,
    }
    if engine.startswith("zero"):
        plugin = _deepspeed_plugin(settings, accumulation, processes, cpu)
        handlers = [InitProcessGroupKwargs(backend="gloo" if cpu else "nccl")]
        # mixed_precision stays "no": DeepSpeed's own torch_autocast (in the plugin) keeps the weights in fp32
        accelerator = Accelerator(deepspeed_plugin=plugin, mixed_precision="no", kwargs_handlers=handlers, **options)
    else:
        ddp = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
        precision = "bf16" if settings.bf16 else "no"
        accelerator = Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[ddp], **options)
    _check_got(accelerator, engine, processes)
    return accelerator


def _meet_again() -> None:
    """After a restart by torchrun's agent: the processes meet under a name of this attempt.

    The agent keeps its store, and in it where the ended processes were to be found (pytorch#135712): with torch 2.13 and
    gloo, most restarts ended in "connection refused" or hung."""
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0" or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    rank, world = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
    dist.init_process_group(store=dist.PrefixStore(f"attempt {attempt}", store), rank=rank, world_size=world)


def describe(accelerator: "Accelerator", bf16: bool) -> str:
    """The first line of a run's log: `engine: ... processes: ... precision: ...`."""
    engine, _ = asked(os.environ)
    names = {"single": "one process", "ddp": "DDP", "fsdp1": "FSDP", "fsdp2": "FSDP2"}
    name = names.get(engine) or f"DeepSpeed ZeRO-{engine.removeprefix('zero')}"
    precision = "bf16 compute, fp32 weights" if bf16 else "fp32"
    device = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else accelerator.device.type
    threads = f" x {torch.get_num_threads()} threads" if accelerator.device.type == "cpu" else ""
    return f"engine: {name} processes: {accelerator.num_processes} precision: {precision} device: {device}{threads}"


def _zero_stage(environment: Mapping[str, str]) -> int:
    file = environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    stage = int(environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", 2))
    if file != "none":
        stage = int(_read_json(file).get("zero_optimization", {}).get("stage", 0))
    if stage == 0:
        raise ValueError(
            "DeepSpeed without ZeRO (stage 0) is DDP: use recipes/accelerate/ddp.yaml, or zero_stage 1 to 3"
        )
    return stage


def _read_json(file: str) -> dict:
    with open(file, encoding="utf-8") as handle:
        return json.load(handle)


def check_launcher_agrees(settings: "PretrainSettings", accumulation: int, environment: Mapping[str, str]) -> None:
    ours = {
        "mixed_precision": "bf16" if settings.bf16 else "no",
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": settings.max_grad_norm,
    }
    launcher: dict[str, Any] = {}
    precision = environment.get("ACCELERATE_MIXED_PRECISION", "no")
    # the launcher writes "no" when nothing was said; only its DeepSpeed fields tell that it was written down
    if precision != "no" or "mixed_precision" in environment.get("ACCELERATE_CONFIG_DS_FIELDS", "").split(","):
        launcher["mixed_precision"] = precision
    launcher["gradient_accumulation_steps"] = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS")
    launcher["gradient_clipping"] = environment.get("ACCELERATE_GRADIENT_CLIPPING")
    file = environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if file != "none":
        deepspeed = _read_json(file)
        launcher |= {key: deepspeed[key] for key in ours if key in deepspeed}
        for precision in ("bf16", "fp16"):
            if deepspeed.get(precision, {}).get("enabled") is True:
                launcher["mixed_precision"] = precision
    for key, theirs in launcher.items():
        if theirs in (None, "auto", "none"):
            continue
        same = theirs == ours[key] if key == "mixed_precision" else float(theirs) == float(ours[key])
        if not same:
            name = "bf16: " + str(settings.bf16).lower() if key == "mixed_precision" else f"{key}: {ours[key]}"
            raise ValueError(
                f"the launcher says {key}: {theirs}, the run's YAML says {name.replace('gradient_clipping', 'max_grad_norm')}: "
                "precision, accumulation and clipping belong to the YAML; take it out of the launcher's configuration"
            )


def _set_threads(wanted: int | None) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(wanted or max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def _deepspeed_plugin(settings: "PretrainSettings", accumulation: int, processes: int, cpu: bool):
    if cpu:
        compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
        if not compiler:
            raise ValueError(
                "DeepSpeed on CPU compiles its communication kernel and found no C++ compiler: "
                "install g++ (Debian: apt install g++) or launch with recipes/accelerate/ddp.yaml"
            )
    try:
        from accelerate.utils import DeepSpeedPlugin

        plugin = DeepSpeedPlugin()
    except ImportError as error:
        raise ValueError(
            f"DeepSpeed was asked for and is not installed: pip install 'llama_train[deepspeed]' ({error})"
        ) from None
    if cpu:
        _load_kernel()
    # DeepSpeed calls collectives that torch 2.13 renamed: once per call on a terminal is too much
    warnings.filterwarnings("ignore", message="`torch.distributed.*is deprecated", category=FutureWarning)
    config = plugin.deepspeed_config
    config["train_micro_batch_size_per_gpu"] = settings.per_device_train_batch_size
    config["gradient_accumulation_steps"] = accumulation
    config["train_batch_size"] = settings.per_device_train_batch_size * accumulation * processes
    config["gradient_clipping"] = settings.max_grad_norm
    config["torch_autocast"] = {"enabled": settings.bf16, "dtype": "bfloat16"}
    config["zero_allow_untested_optimizer"] = True  # torch's own fused AdamW, the same as without DeepSpeed
    config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = True  # the whole weights, in fp32 here
    return plugin


def _load_kernel() -> None:
    """Build or load DeepSpeed's communication kernel, one process of this user at a time.

    torch guards the build with a file that a killed process leaves behind, and waits for it without end. A file found
    while this lock is held, which ends with its process, is such a one."""
    import fcntl

    from deepspeed.accelerator import get_accelerator
    from torch.utils.cpp_extension import get_default_build_root

    cache = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / ".llama_train", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for left in cache.glob("**/deepspeed_shm_comm/lock"):
            left.unlink(missing_ok=True)
        get_accelerator().create_op_builder("ShareMemCommBuilder").load()


def _check_got(accelerator: "Accelerator", engine: str, processes: int) -> None:
    kind = accelerator.distributed_type.value
    if kind == "DEEPSPEED":
        got = f"zero{accelerator.state.deepspeed_plugin.zero_stage}"
    elif kind == "FSDP":
        got = f"fsdp{accelerator.state.fsdp_plugin.fsdp_version}"
    else:
        got = "ddp" if kind.startswith("MULTI_") and processes > 1 else "single"
    if (got, accelerator.num_processes) != (engine, processes):
        raise ValueError(
            f"{engine} with {processes} processes was asked for, Accelerate brought up {got} with "
            f"{accelerator.num_processes}: refusing to train something else than what was asked for"
        )
