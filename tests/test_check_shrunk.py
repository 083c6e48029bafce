"""A shrunk run keeps what makes it itself, for every recipe and every member of the family, and is small."""

from pathlib import Path

import pytest

from llama_train.check_shrunk import LONGEST, ROWS, STEPS, shrink
from llama_train.data.packing import Rows
from llama_train.data.shards import Shards
from llama_train.families import FAMILIES
from llama_train.planner import plan
from llama_train.settings import PretrainSettings, load_settings, settings_to_yaml

RECIPES = sorted((Path(__file__).parent.parent / "recipes/pretrain").glob("*.yaml"))
RUNS = [[str(recipe)] for recipe in RECIPES] + [["--model", name] for name in FAMILIES]
SIZES = "--hidden_size 96 --intermediate_size 256 --num_hidden_layers 1 --vocab_size 90 --num_attention_heads".split()
KEPT = """
model rope_theta rms_norm_eps tie_word_embeddings max_position_embeddings attn_implementation packing seed
activation_checkpointing optim learning_rate adam_beta1 adam_beta2 adam_epsilon weight_decay max_grad_norm
lr_scheduler_type min_lr_ratio async_save
""".split()


def small(words: list[str], folder: Path) -> tuple[PretrainSettings, PretrainSettings]:
    """The run, and the shrunk one as a process of its own would read it."""
    settings = load_settings([*words, "--dry_run"])
    file = folder / "tiny.yaml"
    file.write_text(settings_to_yaml(shrink(settings, folder)), encoding="utf-8")
    return settings, load_settings([str(file)])


@pytest.mark.parametrize("words", RUNS, ids=lambda words: Path(words[-1]).stem)
def test_every_recipe_and_every_model_shrinks_to_a_run(words, tmp_path):
    settings, tiny = small(words, tmp_path)
    for name in KEPT:
        assert getattr(tiny, name) == getattr(settings, name), name
    ratio, theirs = (s.num_attention_heads / s.num_key_value_heads for s in (tiny, settings))
    assert ratio == theirs
    assert tiny.intermediate_size / tiny.hidden_size == pytest.approx(
        settings.intermediate_size / settings.hidden_size, rel=0.02
    )
    run = plan(tiny, 1)
    assert run.parameters < 2e6 and run.steps == STEPS and max(run.warmup_steps, run.decay_steps) < STEPS
    assert tiny.config().rope_parameters == settings.config().rope_parameters
    rows = Rows(Shards(tiny.dataset_path), tiny.max_length)
    assert tiny.max_length == LONGEST and rows.shards.vocab_size == tiny.vocab_size
    assert len(rows) < STEPS * ROWS, "it goes over an epoch's border"
    assert any(0 in rows[i][1][1:] for i in range(ROWS)), "rows hold several documents"


@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        ("8 --num_key_value_heads 1", {"num_attention_heads": 8, "num_key_value_heads": 1, "hidden_size": 64}),
        ("12 --num_key_value_heads 6", {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}),
        ("3 --num_key_value_heads 3", {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32}),
        ("6 --num_key_value_heads 2 --head_dim 32", {"hidden_size": 60, "head_dim": 20, "num_hidden_layers": 1}),
        ("6 --max_length 12", {"max_length": 12, "max_position_embeddings": 12, "vocab_size": 90}),
    ],
)
def test_sizes_of_one_s_own(words, sizes, tmp_path):
    _, tiny = small([*SIZES, *words.split()], tmp_path)
    assert {name: getattr(tiny, name) for name in sizes} == sizes
    assert len(Rows(Shards(tiny.dataset_path), tiny.max_length)) >= ROWS


@pytest.mark.parametrize(
    ("words", "steps"),
    [("--warmup_steps 2000", (2, 0)), ("--warmup_steps 0", (0, 0)), ("--warmup_steps 0.5", (3, 0))]
    + [("--lr_scheduler_type wsd --decay_steps 100", (1, 2)), ("--lr_scheduler_type wsd", (1, 2))],
)
def test_the_schedule_s_parts_are_as_they_were(words, steps, tmp_path):
    _, tiny = small([*SIZES, "6", *words.split()], tmp_path)
    assert (plan(tiny, 1).warmup_steps, plan(tiny, 1).decay_steps) == steps


def test_what_does_not_belong_on_a_small_cpu_is_left_out(tmp_path):
    words = "--bf16 --torch_compile --report_to wandb --dataset_path nowhere --eval_dataset_path nowhere --spike_threshold 6"
    words += " --tokenizer_name_or_path nowhere --global_batch_tokens 4096 --dataloader_num_workers 9 --output_dir mine"
    _, tiny = small([*SIZES, "6", *words.split()], tmp_path)
    assert (tiny.bf16, tiny.torch_compile, tiny.use_cpu, tiny.report_to) == (False, False, True, [])
    assert (tiny.dataloader_num_workers, tiny.spike_threshold, tiny.eval_dataset_path) == (1, None, None)
    assert tiny.dataset_path == str(tmp_path / "shards")


def test_a_run_from_weights_starts_from_random_ones_under_their_config(tmp_path):
    from llama_train.model.llama import LlamaForCausalLM

    rope = {"rope_type": "yarn", "rope_theta": 5e4, "factor": 4.0, "original_max_position_embeddings": 64}
    theirs = load_settings([*SIZES, "6", "--num_key_value_heads", "3", "--max_length", "256"])
    LlamaForCausalLM(theirs.config(rope_parameters=rope, attention_bias=True, eos_token_id=89)).save_pretrained(
        tmp_path / "theirs"
    )
    settings, tiny = small(["--model_name_or_path", str(tmp_path / "theirs")], tmp_path)
    assert tiny.model_name_or_path == str(tmp_path / "start")
    start = LlamaForCausalLM.from_pretrained(tiny.model_name_or_path)
    assert start.config.rope_parameters == rope
    assert start.config.attention_bias and tiny.num_attention_heads == 4
    assert float(start.lm_head.weight.detach().std()) == pytest.approx(0.08, rel=0.1)
