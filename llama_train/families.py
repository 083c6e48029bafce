"""The Llama family as one table: sizes, published training figures and licence facts of Llama 1, 2, 3, 3.1 and 3.2.

Field names are transformers' `LlamaConfig` names and our settings' names, so that a row, a config and the settings of a
run can be compared field by field. `None` means that no published figure is known here; none is guessed.

Sources: Llama 1 (Touvron et al. 2023, arXiv 2302.13971), Llama 2 (Touvron et al. 2023, arXiv 2307.09288), Llama 3 and
3.1 (Grattafiori et al. 2024, arXiv 2407.21783), Llama 3.2 (its model card, September 2024: "up to 9T tokens").
Recalled rather than read again: the licence facts, and that 3.2 was pruned from and taught by 3.1.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import LlamaConfig


@dataclass(frozen=True)
class Training:
    """Pretraining figures as published, under the names of our settings; tokens are counts, not billions."""

    adam_beta1: float | None = None
    adam_beta2: float | None = None
    adam_epsilon: float | None = None
    weight_decay: float | None = None
    max_grad_norm: float | None = None
    lr_scheduler_type: str | None = None
    warmup_steps: int | float | None = None
    min_lr_ratio: float | None = None
    max_length: int | None = None  # tokens in a training row, which may be shorter than the final context
    global_batch_tokens: int | None = None
    learning_rate: float | None = None  # peak
    max_train_tokens: int | None = None
    not_followed: tuple[str, ...] = ()  # published, and not what a run here does


_MI = 2**20  # the papers' "4M" tokens: 1024 rows of 4096

_LLAMA1 = Training(0.9, 0.95, None, 0.1, 1.0, "cosine", 2000, 0.1, 2048, 4 * _MI)
_LLAMA2 = Training(0.9, 0.95, 1e-5, 0.1, 1.0, "cosine", 2000, 0.1, 4096, 4 * _MI)
_RAMP = "the batch grew: 4M tokens at context 4096, 8M at 8192 after 252M tokens, 16M after 2.87T"
_LONG = "the context then grew to 131072 in six stages over about 800B tokens"
_ANNEAL = "the last 40M tokens took the learning rate to 0, and checkpoints of that stretch were averaged"
_SIMILAR = "schedule and batch ramp were published for the 405B; this model's are only called similar"
_LLAMA3 = Training(max_length=8192, not_followed=(_SIMILAR, _ANNEAL))
_LLAMA31 = replace(_LLAMA3, not_followed=(_SIMILAR, _LONG, _ANNEAL))
_LLAMA31_405B = Training(
    lr_scheduler_type="cosine",
    warmup_steps=8000,
    min_lr_ratio=0.01,  # 8e-5 to 8e-7, over 1.2M steps
    max_length=8192,
    global_batch_tokens=16 * _MI,
    not_followed=(_RAMP, _LONG, _ANNEAL),
)
_LLAMA32 = Training(not_followed=("made by pruning Llama 3.1 8B and learning from the logits of 3.1 8B and 70B",))


@dataclass(frozen=True)
class Family:
    """One published model: its sizes under transformers' names, how it was trained, and what its licence asks."""

    name: str
    generation: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    max_position_embeddings: int
    rope_theta: float
    rms_norm_eps: float
    tie_word_embeddings: bool
    published_parameters: int
    recipe: Training
    learning_rate: float | None
    max_train_tokens: float

    @property
    def head_dim(self) -> int:
        """Channels per attention head; the whole family splits its width evenly over the query heads."""
        return self.hidden_size // self.num_attention_heads

    @property
    def rope_scaling(self) -> dict[str, Any] | None:
        """Llama 3.1's frequency scaling that stretches 8192 positions to 131072; None before 3.1."""
        return _ROPE_SCALING.get(self.generation)

    @property
    def bos_token_id(self) -> int:
        """Id of the begin-of-text token in the generation's own tokenizer."""
        return 128_000 if self.generation.startswith("3") else 1

    @property
    def eos_token_id(self) -> int:
        """Id of the end-of-text token in the generation's own tokenizer."""
        return 128_001 if self.generation.startswith("3") else 2

    @property
    def training(self) -> Training:
        """The generation's published figures with this model's own peak learning rate and token count."""
        return replace(self.recipe, learning_rate=self.learning_rate, max_train_tokens=int(self.max_train_tokens))

    @property
    def licence(self) -> Licence:
        """What the law facts say about this generation."""
        return LICENCES[self.generation]

    @property
    def parameters(self) -> int:
        """Parameters by formula (see `count_parameters`); equal to `published_parameters`."""
        return count_parameters(self)

    def config(self, **overrides: Any) -> LlamaConfig:
        """transformers' config of this model; `overrides` are LlamaConfig's own keyword arguments."""
        special = {"bos_token_id": self.bos_token_id, "eos_token_id": self.eos_token_id}
        if overrides.keys() & {"hidden_size", "num_attention_heads"}:
            overrides = {"head_dim": None, **overrides}  # None: LlamaConfig divides the new width by the heads
        return llama_config(self, self.rope_theta, self.rope_scaling, **(special | overrides))


# What a LlamaConfig takes over by name; rope_theta travels inside its rope_parameters.
CONFIG_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
)

_SCALED = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
_SCALED |= {"original_max_position_embeddings": 8192}
_ROPE_SCALING: dict[str, dict[str, Any]] = {"3.1": {**_SCALED, "factor": 8.0}, "3.2": {**_SCALED, "factor": 32.0}}

# fmt: off
_TABLE = (
    #      name             gen  width    ffn layers heads kv   vocab context theta   eps   tied       parameters
    #                                                                              figures       peak lr  tokens
    Family("llama1-7b",    "1",   4096, 11008,  32,  32, 32,  32000,   2048, 1e4, 1e-6, False,   6_738_415_616,
           _LLAMA1, 3.0e-4, 1.0e12),
    Family("llama1-13b",   "1",   5120, 13824,  40,  40, 40,  32000,   2048, 1e4, 1e-6, False,  13_015_864_320,
           _LLAMA1, 3.0e-4, 1.0e12),
    Family("llama1-33b",   "1",   6656, 17920,  60,  52, 52,  32000,   2048, 1e4, 1e-6, False,  32_528_943_616,
           _LLAMA1, 1.5e-4, 1.4e12),
    Family("llama1-65b",   "1",   8192, 22016,  80,  64, 64,  32000,   2048, 1e4, 1e-5, False,  65_285_660_672,
           _LLAMA1, 1.5e-4, 1.4e12),
    Family("llama2-7b",    "2",   4096, 11008,  32,  32, 32,  32000,   4096, 1e4, 1e-5, False,   6_738_415_616,
           _LLAMA2, 3.0e-4, 2.0e12),
    Family("llama2-13b",   "2",   5120, 13824,  40,  40, 40,  32000,   4096, 1e4, 1e-5, False,  13_015_864_320,
           _LLAMA2, 3.0e-4, 2.0e12),
    Family("llama2-34b",   "2",   8192, 22016,  48,  64,  8,  32000,   4096, 1e4, 1e-5, False,  33_743_970_304,
           _LLAMA2, 1.5e-4, 2.0e12),
    Family("llama2-70b",   "2",   8192, 28672,  80,  64,  8,  32000,   4096, 1e4, 1e-5, False,  68_976_648_192,
           _LLAMA2, 1.5e-4, 2.0e12),
    Family("llama3-8b",    "3",   4096, 14336,  32,  32,  8, 128256,   8192, 5e5, 1e-5, False,   8_030_261_248,
           _LLAMA3, 3.0e-4, 15e12),
    Family("llama3-70b",   "3",   8192, 28672,  80,  64,  8, 128256,   8192, 5e5, 1e-5, False,  70_553_706_496,
           _LLAMA3, 1.5e-4, 15e12),
    Family("llama3.1-8b",  "3.1", 4096, 14336,  32,  32,  8, 128256, 131072, 5e5, 1e-5, False,   8_030_261_248,
           _LLAMA31, 3.0e-4, 15e12),
    Family("llama3.1-70b", "3.1", 8192, 28672,  80,  64,  8, 128256, 131072, 5e5, 1e-5, False,  70_553_706_496,
           _LLAMA31, 1.5e-4, 15e12),
    Family("llama3.1-405b", "3.1", 16384, 53248, 126, 128, 8, 128256, 131072, 5e5, 1e-5, False, 405_853_388_800,
           _LLAMA31_405B, 8.0e-5, 15.6e12),
    Family("llama3.2-1b",  "3.2", 2048,  8192,  16,  32,  8, 128256, 131072, 5e5, 1e-5, True,    1_235_814_400,
           _LLAMA32, None, 9e12),
    Family("llama3.2-3b",  "3.2", 3072,  8192,  28,  24,  8, 128256, 131072, 5e5, 1e-5, True,    3_212_749_824,
           _LLAMA32, None, 9e12),
)
# fmt: on
FAMILIES: dict[str, Family] = {family.name: family for family in _TABLE}


@dataclass(frozen=True)
class Licence:
    """Licence facts of a generation, recalled rather than quoted: read the licence itself before relying on one."""

    released: str
    code: str
    weights: str
    naming: str
    outputs_for_training: str
    other: str


_COMMUNITY = "community licence"
_LARGE = "more than 700 million monthly users: ask Meta; an acceptable-use policy applies"
_YES_IF_NAMED = "allowed for other models, if they follow the naming rule"
_BUILT_WITH = 'show "Built with Llama" and begin the name of a derived model with "Llama"'
LICENCES: dict[str, Licence] = {
    "1": Licence("2023-02", "GPL-3", "research only, on request", "-", "-", "never copy GPL code into this project"),
    "2": Licence(
        "2023-07-18", _COMMUNITY, "commercial use allowed", "pass on the licence and a notice file",
        "only for Llama 2 derivatives", _LARGE,
    ),
    "3": Licence(
        "2024-04-18", _COMMUNITY, "commercial use allowed",
        'show "Built with Meta Llama 3" and begin the name of a derived model with "Llama 3"',
        "only for Llama 3 derivatives", _LARGE,
    ),
    "3.1": Licence("2024-07-23", _COMMUNITY, "commercial use allowed", _BUILT_WITH, _YES_IF_NAMED, _LARGE),
    "3.2": Licence(
        "2024-09-25", _COMMUNITY, "commercial use allowed", _BUILT_WITH, _YES_IF_NAMED,
        _LARGE + "; the multimodal models are not licensed to residents of the EU",
    ),
}  # fmt: skip


def find_family(name: str) -> Family:
    """The row called `name`, such as "llama2-70b". Raises ValueError naming the nearest row when there is none."""
    if name not in FAMILIES:
        near = difflib.get_close_matches(name.lower(), FAMILIES, n=1, cutoff=0.0)[0]
        raise ValueError(f"model: there is no '{name}'; the nearest is '{near}' (all: {', '.join(FAMILIES)})")
    return FAMILIES[name]


def llama_config(sizes: Any, rope_theta: float | None, rope_scaling: dict | None, **overrides: Any) -> LlamaConfig:
    """transformers' config of anything that has `CONFIG_FIELDS`; `overrides` are LlamaConfig's own arguments."""
    from transformers import LlamaConfig

    values: dict[str, Any] = {name: getattr(sizes, name) for name in CONFIG_FIELDS}
    values["rope_parameters"] = {"rope_theta": rope_theta, **(rope_scaling or {"rope_type": "default"})}
    return LlamaConfig(**(values | overrides))


def count_parameters(sizes: Any) -> int:
    """All parameters of a Llama without biases: embedding, layers with two norms each, last norm, untied head.

    `sizes` is anything with LlamaConfig's names for them: a `Family`, resolved settings, a LlamaConfig.
    """
    embedding = sizes.vocab_size * sizes.hidden_size
    norms = (2 * sizes.num_hidden_layers + 1) * sizes.hidden_size
    return count_matmul_parameters(sizes) + norms + (0 if sizes.tie_word_embeddings else embedding)


def count_matmul_parameters(sizes: Any) -> int:
    """Parameters every token is multiplied with: the layers' matrices and the head; no embedding look-up, no norms."""
    heads = 2 * sizes.num_attention_heads + 2 * sizes.num_key_value_heads  # q and o, k and v
    attention = heads * sizes.head_dim * sizes.hidden_size
    feed_forward = 3 * sizes.hidden_size * sizes.intermediate_size  # gate, up, down
    return sizes.num_hidden_layers * (attention + feed_forward) + sizes.vocab_size * sizes.hidden_size
