"""Names that transformers 4, TRL and older scripts use for our settings: mapped with a warning, or refused."""

import sys
from typing import Any

# old name: (our name, {old value: our value})
RENAMED: dict[str, tuple[str, dict[Any, Any]]] = {
    "block_size": ("max_length", {}),
    "max_seq_length": ("max_length", {}),
    "gradient_checkpointing": ("activation_checkpointing", {}),
    "lr": ("learning_rate", {}),
    "lr_scheduler": ("lr_scheduler_type", {}),
    "no_cuda": ("use_cpu", {}),
    "overwrite_output_dir": ("resume_from_checkpoint", {"true": "none", "false": "auto"}),
    "per_gpu_eval_batch_size": ("per_device_eval_batch_size", {}),
    "per_gpu_train_batch_size": ("per_device_train_batch_size", {}),
    "tokenizer_name": ("tokenizer_name_or_path", {}),
    "torch_dtype": ("bf16", {"bfloat16": True, "auto": True, "float32": False}),
    "dtype": ("bf16", {"bfloat16": True, "auto": True, "float32": False}),
    "warmup_ratio": ("warmup_steps", {}),
}

# old name: (values that ask for nothing else than what happens anyway, why others are refused)
GONE: dict[str, tuple[tuple[str, ...], str]] = {
    "deepspeed": ((), "the engine belongs to `accelerate launch --config_file`, see recipes/accelerate"),
    "do_eval": (("true",), "evaluation follows from eval_dataset_path: leave that out instead"),
    "do_train": (("true",), "use `llama-train evaluate` to evaluate only"),
    "eval_strategy": (("steps",), "evaluation comes every eval_steps; leave eval_dataset_path out for none"),
    "evaluation_strategy": (("steps",), "evaluation comes every eval_steps; leave eval_dataset_path out for none"),
    "fp16": (("false",), "fp16 needs loss scaling and is not offered: use bf16"),
    "fsdp": (("", "false"), "the engine belongs to `accelerate launch --config_file`, see recipes/accelerate"),
    "logging_strategy": (("steps",), "logging comes every logging_steps"),
    "save_safetensors": (("true",), "weights are always saved as safetensors"),
    "save_strategy": (("steps",), "saving comes every save_steps; 0 saves only at the end"),
}
IGNORED = {"logging_dir": "logs lie in output_dir", "local_rank": "the launcher's environment says it"}

# our name: {value in transformers' words: value in ours}; no warning, both are right
SAME_VALUE: dict[str, dict[Any, Any]] = {
    "lr_scheduler_type": {
        "constant_with_warmup": "constant",
        "cosine_with_min_lr": "cosine",
        "warmup_stable_decay": "wsd",
    },
    "max_steps": {-1: None, "-1": None},
    "optim": {"adamw_torch": "adamw_torch_fused"},
    "resume_from_checkpoint": {True: "auto", False: "none", "true": "auto", "false": "none"},
}


def modernize(values: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """`values` under today's names; says on stderr what it changed. Raises ValueError for what has no counterpart."""
    modern: dict[str, Any] = {}
    asked_as: dict[str, str] = {}  # our name: the old one that was given
    for key, value in values.items():
        if key in known:
            name = key
        elif key in RENAMED:
            name, translation = RENAMED[key]
            if name in values:
                raise ValueError(f"{key} is the old name of {name}, and both are set: keep {name}")
            if name in asked_as:
                raise ValueError(f"{asked_as[name]} and {key} both mean {name} here: give {name} once")
            asked_as[name] = key
            if key == "warmup_ratio":
                _check_ratio(value)
            if translation and _text(value) not in translation:
                raise ValueError(f"{key}: {value} is not possible here, expected one of {', '.join(translation)}")
            value = translation.get(_text(value), value)
            _warn(f"{key} is called {name} here; read as {name}: {value}")
        elif key in GONE:
            harmless, reason = GONE[key]
            if _text(value) not in harmless:
                raise ValueError(f"{key}: {value} is not possible here: {reason}")
            _warn(f"{key} is not needed: {reason}")
            continue
        elif key in IGNORED:
            _warn(f"{key} is ignored: {IGNORED[key]}")
            continue
        else:
            name = key
        same = SAME_VALUE.get(name, {})
        modern[name] = same[value] if isinstance(value, (str, int)) and value in same else value
    return modern


def _check_ratio(value: Any) -> None:
    """A ratio of 1 or more would turn into a number of steps."""
    try:
        too_long = float(value) >= 1
    except (TypeError, ValueError):
        return  # refused later, by its type
    if too_long:
        raise ValueError(
            f"warmup_ratio: {value} must be a share of the run below 1; for a number of steps: warmup_steps"
        )


def _text(value: Any) -> str:
    return str(value).lower().removeprefix("torch.")


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
