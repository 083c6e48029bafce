"""Every setting of a pretraining run in one table, under Hugging Face and TRL key names, and how gaps are filled.

A value comes from `--key value`, else from the YAML file, else from the family (`llama_train/families.py`: what was
published for `model`), else from the house default. `load_settings` reads, fills and checks; docs/settings.md explains.
"""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import yaml

from llama_train.families import find_family, llama_config
from llama_train.settings_loader import read_settings
from llama_train.settings_resolve import check, fill

if TYPE_CHECKING:
    from transformers import LlamaConfig


@dataclass
class PretrainSettings:
    """One pretraining run. `None` is filled by `resolve`: from the family, or by the value in brackets."""

    # model: a family's name, or sizes of your own, or both (the sizes then replace the family's)
    model: str | None = None  # llama1-7b ... llama3.2-3b; brings sizes and published hyperparameters
    model_name_or_path: str | None = None  # start from these weights instead of random ones
    hidden_size: int | None = None
    intermediate_size: int | None = None
    num_hidden_layers: int | None = None
    num_attention_heads: int | None = None
    num_key_value_heads: int | None = None  # [num_attention_heads]
    head_dim: int | None = None  # [hidden_size / num_attention_heads]
    vocab_size: int | None = None
    max_position_embeddings: int | None = None  # [max_length]
    rope_theta: float | None = None  # [10000]
    rms_norm_eps: float | None = None  # [1e-5]
    tie_word_embeddings: bool | None = None  # [false]
    initializer_range: float = 0.02
    attn_implementation: Literal["sdpa", "eager"] = "sdpa"

    # data
    dataset_path: str | None = None  # folder of token shards to train on
    eval_dataset_path: str | None = None  # folder of held-out token shards; none: no evaluation
    tokenizer_name_or_path: str | None = None  # folder of the tokenizer that made the shards [`tokenizer` beside them]
    max_length: int | None = None  # tokens in a row [2048; at most max_position_embeddings]
    packing: bool = True  # rows without padding; documents in a row never see each other
    dataloader_num_workers: int = 0
    accept_changed_data: bool = False  # resume with other data, from its beginning, as a new segment of the ledger

    # output
    output_dir: str | None = None  # [runs/<model>]
    resume_from_checkpoint: str = "auto"  # auto: the newest in output_dir, if any; none: start anew; or a folder
    save_steps: int = 1000  # 0: only at the end
    save_total_limit: int = 2  # newest checkpoints kept, and always the best one; 0: all
    async_save: bool = False  # write checkpoints while training goes on, from a copy in memory
    seed: int = 42

    # training: one of the three lengths, and one of the two batch keys
    max_steps: int | None = None
    num_train_epochs: float | None = None  # [1; with `model`: its published tokens]
    max_train_tokens: int | None = None
    per_device_train_batch_size: int = 1  # rows in a micro-batch
    gradient_accumulation_steps: int | None = None  # [1; with `model`: its batch, or 4M tokens]
    global_batch_tokens: int | None = None  # tokens in an optimizer step; accumulation follows from it
    bf16: bool = True  # bf16 compute over fp32 weights; false: fp32 throughout
    activation_checkpointing: bool = False
    torch_compile: bool = False
    use_cpu: bool = False
    cpu_threads: int | None = None  # [the machine's cores, shared by the processes on it]

    # optimizer and schedule
    optim: Literal["adamw_torch_fused"] = "adamw_torch_fused"
    learning_rate: float | None = None  # peak [3e-4]
    adam_beta1: float | None = None  # [0.9]
    adam_beta2: float | None = None  # [0.95]
    adam_epsilon: float | None = None  # [1e-8]
    weight_decay: float | None = None  # on matrices only [0.1]
    max_grad_norm: float | None = None  # 0: no clipping [1.0]
    lr_scheduler_type: Literal["cosine", "linear", "constant", "wsd"] | None = None  # [cosine]
    warmup_steps: int | float | None = None  # below 1: share of the run [0.02; with `model` 2000]
    min_lr_ratio: float | None = None  # where the schedule ends, as a share of the peak [0.1]
    decay_steps: int | float | None = None  # wsd only; below 1: share of the run [0.2]

    # trouble
    spike_threshold: float | None = None  # leave out batches so many deviations above the last 128, and NaN (OLMo 2: 6)
    hang_timeout: float = 45.0  # seconds without progress after which a process is called hung; 0: never

    # evaluation
    eval_steps: int = 500  # 0: only before the first step and after the last
    per_device_eval_batch_size: int | None = None  # [per_device_train_batch_size]
    max_eval_rows: int | None = None  # all, unless set

    # tracking: metrics.jsonl is always written
    logging_steps: int = 10
    report_to: list[str] | None = None  # none, wandb, tensorboard, all, or a list [none]
    run_name: str | None = None  # [last part of output_dir]
    project: str = "llama-train"
    dry_run: bool = False  # print the plan and stop

    def resolve(self) -> "PretrainSettings":
        """A copy with every gap filled, and checked; resolving twice changes nothing. Raises ValueError in one line."""
        settings = replace(self)
        fill(settings)
        check(settings)
        return settings

    def config(self, **overrides: Any) -> "LlamaConfig":
        """transformers' config of the resolved sizes, with the family's RoPE scaling.

        `overrides` are LlamaConfig's arguments; the special token ids are None until the tokenizer's are given there.
        """
        scaling = find_family(self.model).rope_scaling if self.model else None
        defaults: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None}
        defaults["initializer_range"] = self.initializer_range
        return llama_config(self, self.rope_theta, scaling, **(defaults | overrides))


def load_settings(argv: list[str], cls: type = PretrainSettings) -> Any:
    """The resolved settings that `[YAML] [--key value]...` asks for, as a `cls`.

    Raises ValueError in one line: an unknown key (naming the nearest), a value of the wrong type, an impossible
    combination. `--help` prints the table and raises SystemExit(0).
    """
    return read_settings(argv, cls).resolve()


def settings_to_yaml(settings: Any) -> str:
    """The YAML text that `load_settings` turns back into equal settings; becomes output_dir/config.yaml."""
    return yaml.safe_dump(asdict(settings), sort_keys=False, allow_unicode=True)
