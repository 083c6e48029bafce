"""The plan of a run before it starts: parameters, arithmetic, memory, batch, steps and learning rate.

Needs no data, tokenizer, network or torch; where the shards are there already, it counts their rows as well. FLOPs per
token by two formulas in use: B counts causal attention once, 6 N + 6 L H Q T; A counts what the mask hides too,
6 N + 12 L H Q T. N parameters that multiply (no embedding look-up, no norms), L layers, H heads of Q channels, T row.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_train.families import CONFIG_FIELDS, count_matmul_parameters, count_parameters, find_family
from llama_train.planner_memory import state_bytes
from llama_train.settings import PretrainSettings
from llama_train.settings_resolve import HYPERPARAMETERS
from llama_train.train.schedule import count_steps, learning_rate

GIB = 2**30


@dataclass(frozen=True)
class Plan:
    """What a run will do. A step is one optimizer update; tokens include the one that neighbouring rows share."""

    settings: PretrainSettings
    num_processes: int
    parameters: int
    matmul_parameters: int
    flops_per_token: float  # formula B
    accumulation: int  # micro-batches a process adds up for one step
    rows_per_step: int
    tokens_per_step: int
    steps: int
    rows: int | None  # in one epoch; None while there are no shards at dataset_path
    warmup_steps: int
    decay_steps: int

    @property
    def tokens(self) -> int:
        """Tokens of the whole run."""
        return self.steps * self.tokens_per_step

    @property
    def epochs(self) -> float | None:
        """How often the run sees its data; None while there are no shards."""
        return self.steps * self.rows_per_step / self.rows if self.rows else None

    @property
    def schedule(self) -> dict[str, Any]:
        """The keyword arguments of `learning_rate` for this run."""
        return {
            "total_steps": self.steps,
            "peak": self.settings.learning_rate,
            "kind": self.settings.lr_scheduler_type,
            "warmup_steps": self.warmup_steps,
            "min_ratio": self.settings.min_lr_ratio,
            "decay_steps": self.decay_steps,
        }


def plan(settings: PretrainSettings, num_processes: int) -> Plan:
    """The plan of resolved `settings` on `num_processes` processes.

    Raises ValueError where batch, processes and rows do not divide, where warm-up and decay are longer than the run,
    and where num_train_epochs asks for shards that are not there or shorter than a row.
    """
    accumulation = _accumulation(settings, num_processes)
    rows_per_step = settings.per_device_train_batch_size * accumulation * num_processes
    rows = _rows(settings)
    steps = _steps(settings, rows_per_step, rows)
    warmup, decay = count_steps(settings.warmup_steps or 0, steps), count_steps(settings.decay_steps or 0, steps)
    if warmup + decay > steps:
        parts = f"warmup_steps ({warmup})" + (f" and decay_steps ({decay})" if decay else "")
        raise ValueError(f"{parts} do not fit into a run of {steps} steps: shorten them, or give a share such as 0.02")
    return Plan(
        settings=settings,
        num_processes=num_processes,
        parameters=count_parameters(settings),
        matmul_parameters=count_matmul_parameters(settings),
        flops_per_token=flops_per_token(settings, _known(settings.max_length)),
        accumulation=accumulation,
        rows_per_step=rows_per_step,
        tokens_per_step=rows_per_step * _known(settings.max_length),
        steps=steps,
        rows=rows,
        warmup_steps=warmup,
        decay_steps=decay,
    )


def flops_per_token(sizes: Any, context: int, causal: bool = True) -> float:
    """Forward and backward FLOPs per token at `context` tokens: formula B, or formula A where `causal` is False."""
    channels = sizes.num_hidden_layers * sizes.num_attention_heads * sizes.head_dim
    return 6.0 * count_matmul_parameters(sizes) + (6 if causal else 12) * channels * context


def _known(value: int | None) -> int:
    assert value is not None, "plan() takes resolved settings"
    return value


def _accumulation(settings: PretrainSettings, num_processes: int) -> int:
    if settings.global_batch_tokens is None:
        return _known(settings.gradient_accumulation_steps)
    batch, length = settings.per_device_train_batch_size, _known(settings.max_length)
    micro = batch * length * num_processes
    accumulation, rest = divmod(settings.global_batch_tokens, micro)
    if rest:
        near = max(1, round(settings.global_batch_tokens / micro)) * micro
        raise ValueError(
            f"global_batch_tokens ({settings.global_batch_tokens}) is not a multiple of {num_processes} processes x "
            f"per_device_train_batch_size ({batch}) x max_length ({length}) = {micro}; the nearest multiple is {near}"
        )
    return accumulation


def _rows(settings: PretrainSettings) -> int | None:
    """Rows of an epoch: they overlap by one token, and a shorter last one is left out."""
    manifest = read_manifest(settings)
    return None if manifest is None else (manifest["tokens"] - 1) // (_known(settings.max_length) - 1)


def read_manifest(settings: PretrainSettings) -> dict[str, Any] | None:
    """The manifest of the shards at dataset_path; None where there are none (yet)."""
    file = Path(settings.dataset_path or "") / "manifest.json"
    if settings.dataset_path is None or not file.is_file():
        return None
    return json.loads(file.read_text(encoding="utf-8"))


def _steps(settings: PretrainSettings, rows_per_step: int, rows: int | None) -> int:
    if settings.max_steps is not None:
        return settings.max_steps
    if settings.max_train_tokens is not None:
        return math.ceil(settings.max_train_tokens / (rows_per_step * _known(settings.max_length)))
    assert settings.num_train_epochs is not None
    if not rows:
        reason = "there are no token shards" if rows is None else "they are shorter than one row"
        raise ValueError(
            f"num_train_epochs ({settings.num_train_epochs}) cannot be counted in steps: dataset_path "
            f"'{settings.dataset_path}': {reason}; build them, or set max_steps or max_train_tokens"
        )
    return math.ceil(settings.num_train_epochs * rows / rows_per_step)


def render(plan: Plan) -> str:
    """The plan as a text table, with what was published and is not followed at the end."""
    settings, lr = plan.settings, plan.schedule
    end = plan.steps - 1
    landmarks = {0: "first", plan.warmup_steps: "end of warm-up", plan.steps // 2: "half-way", end: "last"}
    rates = [f"{learning_rate(step, **lr):.3g} at step {step:,} ({name})" for step, name in sorted(landmarks.items())]
    full = flops_per_token(settings, _known(settings.max_length), causal=False)
    data = "no shards there yet" if plan.rows is None else f"{plan.rows:,} rows, seen {plan.epochs:.3g} times"
    table = {
        "model": settings.model or settings.model_name_or_path or "sizes of your own",
        "shape": f"{settings.num_hidden_layers} layers, width {settings.hidden_size}, "
        f"ffn {settings.intermediate_size}, {settings.num_attention_heads} heads and {settings.num_key_value_heads} "
        f"kv heads of {settings.head_dim} channels",
        "vocabulary": f"{settings.vocab_size:,}, {'tied' if settings.tie_word_embeddings else 'untied'} embeddings",
        "parameters": f"{plan.parameters:,}, of which {plan.matmul_parameters:,} multiply every token",
        "context": f"{settings.max_length:,} tokens a row (positions up to {settings.max_position_embeddings:,})",
        "FLOPs per token": f"{plan.flops_per_token:.4g} (B: 6N + 6LHQT), {full:.4g} (A: 6N + 12LHQT)",
        "FLOPs of the run": f"{plan.flops_per_token * plan.tokens:.3g} (B)",
        "memory": f"{state_bytes(plan.parameters) / GIB:,.1f} GiB: fp32 weights, gradients and two Adam moments, 4 bytes each; "
        "without activations",
        "data": f"{settings.dataset_path or 'dataset_path is not set'}: {data}",
        "batch": f"{plan.tokens_per_step:,} tokens a step = {settings.per_device_train_batch_size} rows x "
        f"{plan.accumulation} accumulated x {plan.num_processes} processes x {settings.max_length:,} tokens",
        "length": f"{plan.steps:,} steps, {plan.tokens:,} tokens ({plan.tokens / plan.parameters:.3g} per parameter)",
        "optimizer": f"AdamW, betas {settings.adam_beta1} and {settings.adam_beta2}, eps {settings.adam_epsilon:g}, "
        f"weight decay {settings.weight_decay:g}, clip {settings.max_grad_norm:g}",
        "schedule": f"{settings.lr_scheduler_type} to {settings.min_lr_ratio:.3g} of the peak"
        + (f" over the last {plan.decay_steps:,} steps" if plan.decay_steps else ""),
        "learning rate": f"\n{'':18}".join(rates),
        "precision": "bf16 compute, fp32 weights" if settings.bf16 else "fp32",
    }
    lines = [f"{name:<16}  {text}" for name, text in table.items()]
    return "\n".join(lines + [f"note: {text}" for text in notes(plan)])


def notes(plan: Plan) -> list[str]:
    """Where the run leaves what was published for its model, what never was, and what the shards contradict."""
    found, settings = [], plan.settings
    manifest = read_manifest(settings)
    if manifest and manifest["vocab_size"] != settings.vocab_size:
        found.append(f"the shards have {manifest['vocab_size']} token ids, the model {settings.vocab_size}")
    if not settings.model:
        return found
    family = find_family(settings.model)
    published: dict[str, Any] = {name: getattr(family, name) for name in (*CONFIG_FIELDS, "rope_theta")}
    published |= {name: getattr(family.training, name) for name in (*HYPERPARAMETERS, "max_length")}
    here = {name: getattr(settings, name) for name in published} | {"warmup_steps": plan.warmup_steps}
    published |= {"batch tokens": family.training.global_batch_tokens, "tokens": family.training.max_train_tokens}
    here |= {"batch tokens": plan.tokens_per_step, "tokens": plan.tokens}
    for name, value in published.items():
        rounding = plan.tokens_per_step - 1 if name == "tokens" else 0  # the last step is a whole one
        if value is not None and value != here[name] and not 0 < here[name] - value <= rounding:
            found.append(f"{name}: published {_figure(value)}, this run {_figure(here[name])}")
    missing = [name for name, value in published.items() if value is None]
    if missing:
        found.append(f"no published figure known for {family.name}, so yours or the house's: {', '.join(missing)}")
    return found + [f"published and not followed: {text}" for text in family.training.not_followed]


def _figure(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
