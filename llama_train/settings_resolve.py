"""How gaps in the settings are filled (family, then house) and which combinations are refused."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_train.families import CONFIG_FIELDS, Family, Training, find_family

if TYPE_CHECKING:
    from llama_train.settings import PretrainSettings

# Where neither the user nor a paper says anything: the figures of Llama 1 and 2, and PyTorch's epsilon. A model of the
# family is also given their batch and warm-up; a model of one's own sizes is probably a small run, so: a share of it.
HOUSE = Training(0.9, 0.95, 1e-8, 0.1, 1.0, "cosine", 0.02, 0.1, 2048, None, 3e-4)
FAMILY_HOUSE = replace(HOUSE, warmup_steps=2000, max_length=8192, global_batch_tokens=4 * 2**20)
HOUSE_DECAY_SHARE = 0.2  # Haegele et al. 2024 (arXiv 2405.18392) find 10 to 20 % of the run enough
HOUSE_SIZES = {"rope_theta": 1e4, "rms_norm_eps": 1e-5, "tie_word_embeddings": False}

SIZES = (*CONFIG_FIELDS, "rope_theta")
REQUIRED_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
LENGTHS = ("max_steps", "num_train_epochs", "max_train_tokens")
HYPERPARAMETERS = tuple(
    field.name
    for field in fields(Training)
    if field.name not in ("max_length", "global_batch_tokens", "max_train_tokens", "not_followed")
)


def fill(settings: "PretrainSettings") -> None:
    """Fill every `None` that has a meaning, in place. Raises ValueError where two answers contradict each other."""
    family = find_family(settings.model) if settings.model else None
    published, house = (family.training, FAMILY_HOUSE) if family else (Training(), HOUSE)
    _fill_sizes(settings, family)
    for name in HYPERPARAMETERS:
        _default(settings, name, getattr(published, name), getattr(house, name))
    if settings.lr_scheduler_type == "wsd":
        _default(settings, "decay_steps", HOUSE_DECAY_SHARE)
    _fill_length(settings, published)
    _fill_batch(settings, published.global_batch_tokens or house.global_batch_tokens)
    row = published.max_length or house.max_length
    assert row is not None
    _default(settings, "max_length", min(row, settings.max_position_embeddings or row))
    _default(settings, "max_position_embeddings", settings.max_length)
    _default(settings, "output_dir", f"runs/{settings.model or 'pretrain'}")
    _default(settings, "run_name", Path(str(settings.output_dir)).name)
    settings.report_to = [name for name in settings.report_to or [] if name != "none"]


def _default(settings: "PretrainSettings", name: str, *values: Any) -> None:
    """Give `name` the first of `values` that is not None, unless the user gave one."""
    for value in values:
        if getattr(settings, name) is None:
            setattr(settings, name, value)


def _fill_sizes(settings: "PretrainSettings", family: Family | None) -> None:
    stored = _stored_sizes(settings) if settings.model_name_or_path else {}
    for name in SIZES:
        given = getattr(settings, name)
        if given is not None and given != stored.get(name, given):
            raise ValueError(
                f"{name}: {given} is asked for, but the weights in '{settings.model_name_or_path}' have "
                f"{stored[name]}: leave {name} out, or start without model_name_or_path"
            )
    for name in SIZES:
        published = None if name == "head_dim" else getattr(family, name, None)  # head_dim: see below
        _default(settings, name, stored.get(name), published, HOUSE_SIZES.get(name))
    missing = [name for name in REQUIRED_SIZES if getattr(settings, name) is None]
    if missing:
        raise ValueError(
            f"the model's sizes are incomplete, missing: {', '.join(missing)}; set them, or choose a member of the "
            "family (model: llama3.2-1b), or existing weights (model_name_or_path)"
        )
    _default(settings, "num_key_value_heads", settings.num_attention_heads)
    heads = settings.num_attention_heads
    if settings.head_dim is None and heads and settings.hidden_size:  # after overrides, so that they count
        settings.head_dim = settings.hidden_size // heads


def _stored_sizes(settings: "PretrainSettings") -> dict[str, Any]:
    """The sizes in the config.json of model_name_or_path, a folder or a model on the Hub.

    A dry run looks for the latter in the local cache only. Raises ValueError where there is no readable Llama config.
    """
    name = settings.model_name_or_path
    assert name is not None
    try:
        config = json.loads(_config_file(name, settings.dry_run).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        where = "in the local Hub cache (a dry run does not download)" if settings.dry_run else "on the Hub"
        raise ValueError(
            f"model_name_or_path '{name}' is neither a folder with a config.json (such as RUN/final) nor a model "
            f"{where}: {str(error).splitlines()[0]}"
        ) from None
    if config.get("model_type") != "llama":
        raise ValueError(f"model_name_or_path '{name}' is a {config.get('model_type')} model, not a llama")
    rope = config.get("rope_parameters") or {}
    stored = {name: config.get(name) for name in CONFIG_FIELDS}
    stored["rope_theta"] = rope.get("rope_theta", config.get("rope_theta"))
    return {name: value for name, value in stored.items() if value is not None}


def _config_file(name: str, cached_only: bool) -> Path:
    if Path(name).is_dir():
        return Path(name) / "config.json"
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(name, "config.json", local_files_only=cached_only))


def _fill_length(settings: "PretrainSettings", published: Training) -> None:
    given = [name for name in LENGTHS if getattr(settings, name) is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are set, and each alone decides how long to train: keep one of them")
    if not given and published.max_train_tokens is not None:
        settings.max_train_tokens = published.max_train_tokens
    elif not given:
        settings.num_train_epochs = 1.0


def _fill_batch(settings: "PretrainSettings", usual: int | None) -> None:
    tokens, accumulation = settings.global_batch_tokens, settings.gradient_accumulation_steps
    if tokens is not None and accumulation is not None:
        raise ValueError(
            f"global_batch_tokens ({tokens}) and gradient_accumulation_steps ({accumulation}) are both set, "
            "and the first decides the second: keep one of them"
        )
    if tokens is None and accumulation is None:
        settings.global_batch_tokens = usual
        settings.gradient_accumulation_steps = None if usual else 1
    _default(settings, "per_device_eval_batch_size", settings.per_device_train_batch_size)


POSITIVE = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("head_dim", "vocab_size", "max_position_embeddings", "rope_theta", "rms_norm_eps", "initializer_range", *LENGTHS),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "global_batch_tokens", "cpu_threads"),
    *("learning_rate", "adam_epsilon", "per_device_eval_batch_size", "max_eval_rows", "logging_steps"),
    "spike_threshold",
)
NOT_NEGATIVE = (
    *("dataloader_num_workers", "save_steps", "save_total_limit", "seed", "weight_decay", "max_grad_norm"),
    *("warmup_steps", "decay_steps", "eval_steps", "hang_timeout"),
)
TRACKERS = ("wandb", "tensorboard", "all")


def check(settings: "PretrainSettings") -> None:
    """Raise ValueError for a value out of range or a combination that cannot run; gaps must have been filled."""
    for name in POSITIVE + NOT_NEGATIVE:
        value = getattr(settings, name)
        if value is not None and (value < 0 or (value == 0 and name in POSITIVE)):
            bound = "above 0" if name in POSITIVE else "at least 0"
            raise ValueError(f"{name}: {value} is out of range, it must be {bound}")
    for name in ("warmup_steps", "decay_steps"):
        value = getattr(settings, name)
        if isinstance(value, float) and value >= 1:
            raise ValueError(f"{name}: {value} is neither a whole number of steps nor a share of the run below 1")
    for name, upper in (("min_lr_ratio", "at most 1"), ("adam_beta1", "below 1"), ("adam_beta2", "below 1")):
        value = getattr(settings, name)
        if not 0 <= value <= 1 or (value == 1 and upper == "below 1"):
            raise ValueError(f"{name}: {value} is out of range, it must be at least 0 and {upper}")
    if settings.decay_steps is not None and settings.lr_scheduler_type != "wsd":
        raise ValueError(f"decay_steps belongs to lr_scheduler_type wsd, and this run has {settings.lr_scheduler_type}")
    unknown = [name for name in settings.report_to or [] if name not in TRACKERS]
    if unknown:
        raise ValueError(f"report_to: {', '.join(unknown)} is not one of none, {', '.join(TRACKERS)}")
    assert settings.max_length is not None
    if settings.max_length < 2:
        raise ValueError(f"max_length: {settings.max_length} leaves no token to predict, it must be at least 2")
    if settings.seed >= 2**63:  # what torch and numpy both take
        raise ValueError(f"seed: {settings.seed} is out of range, it must be below 2^63")
    if settings.attn_implementation == "eager" and settings.packing:
        raise ValueError(
            "attn_implementation eager cannot keep the documents of a packed row apart: set packing: false, "
            "or attn_implementation: sdpa"
        )
    _check_sizes(settings)


def _check_sizes(settings: "PretrainSettings") -> None:
    heads, groups, limit = settings.num_attention_heads, settings.num_key_value_heads, settings.max_position_embeddings
    assert settings.hidden_size and heads and groups and settings.head_dim and limit and settings.max_length
    if settings.hidden_size % heads:
        raise ValueError(f"hidden_size ({settings.hidden_size}) must be a multiple of num_attention_heads ({heads})")
    if heads % groups:
        raise ValueError(f"num_attention_heads ({heads}) must be a multiple of num_key_value_heads ({groups})")
    if settings.head_dim % 2:
        raise ValueError(f"head_dim ({settings.head_dim}) must be even: RoPE turns channels in pairs")
    if settings.max_length > limit:
        raise ValueError(
            f"max_length ({settings.max_length}) is longer than max_position_embeddings ({limit}): "
            "shorten the rows or raise max_position_embeddings"
        )
    scaling = find_family(settings.model).rope_scaling if settings.model else None
    if scaling and limit <= scaling["original_max_position_embeddings"] and not settings.model_name_or_path:
        raise ValueError(
            f"max_position_embeddings ({limit}) must exceed the {scaling['original_max_position_embeddings']} that "
            f"the RoPE scaling of {settings.model} starts from; for a shorter context take a llama3 model"
        )
