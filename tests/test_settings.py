"""Settings: where a value comes from, what is refused with which words, and the way through YAML and back."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from llama_train.families import FAMILIES
from llama_train.settings import PretrainSettings, load_settings, settings_to_yaml

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
}


@pytest.fixture
def small(tmp_path: Path) -> str:
    """A YAML file with the sizes of a small model and a length."""
    return write(tmp_path, **SIZES, max_steps=100)


def write(folder: Path, text: str = "", /, **values: object) -> str:
    file = folder / "run.yaml"
    file.write_text(text + "".join(f"{key}: {value}\n" for key, value in values.items()), encoding="utf-8")
    return str(file)


def refusal(*argv: str) -> str:
    """The one line with which these arguments are refused."""
    with pytest.raises(ValueError) as caught:
        load_settings(list(argv))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_there_are_at_most_sixty_settings() -> None:
    assert len(dataclasses.fields(PretrainSettings)) <= 60


def test_every_setting_is_documented(root: Path) -> None:
    page = (root / "docs" / "settings.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert documented == [field.name for field in dataclasses.fields(PretrainSettings)]


def test_words_win_over_yaml_over_family_over_house(tmp_path: Path) -> None:
    file = write(tmp_path, model="llama2-7b", learning_rate="1e-3", weight_decay=0.2)
    settings = load_settings([file, "--weight_decay", "0.3"])
    assert settings.weight_decay == 0.3  # word
    assert settings.learning_rate == 1e-3  # YAML
    assert settings.adam_epsilon == 1e-5  # Llama 2's
    assert load_settings(["--model", "llama1-7b"]).adam_epsilon == 1e-8  # unpublished: the house's


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_name_brings_sizes_and_published_figures(name: str) -> None:
    settings, family = load_settings(["--model", name]), FAMILIES[name]
    for size in ("hidden_size", "num_key_value_heads", "head_dim", "rope_theta", "max_position_embeddings"):
        assert getattr(settings, size) == getattr(family, size)
    for field in dataclasses.fields(family.training):
        published = getattr(family.training, field.name)
        if published is not None and field.name != "not_followed":
            assert getattr(settings, field.name) == published, field.name
    assert settings.output_dir == f"runs/{name}"


def test_overrides_shrink_a_family_member() -> None:
    settings = load_settings(["--model", "llama3-8b", "--hidden_size", "256", "--num_attention_heads", "8"])
    assert (settings.head_dim, settings.num_key_value_heads, settings.rope_theta) == (32, 8, 5e5)


def test_config_equals_the_familys_own() -> None:
    ids = {"bos_token_id": 128000, "eos_token_id": 128001}
    ours = load_settings(["--model", "llama3.1-8b"]).config(**ids).to_dict()
    assert ours == FAMILIES["llama3.1-8b"].config().to_dict()


def test_sizes_of_ones_own_get_house_values(small: str) -> None:
    settings = load_settings([small])
    assert (settings.head_dim, settings.rope_theta, settings.rms_norm_eps) == (16, 1e4, 1e-5)
    assert settings.max_length == settings.max_position_embeddings == 2048
    assert (settings.gradient_accumulation_steps, settings.warmup_steps, settings.report_to) == (1, 0.02, [])


def test_resolving_twice_and_through_yaml_changes_nothing(small: str, tmp_path: Path) -> None:
    many = ["--lr_scheduler_type", "wsd", "--report_to", "wandb,tensorboard", "--run_name", "Größe: 1 #x", "--no_cuda"]
    for argv in ([small], [small, *many], *(["--model", name] for name in FAMILIES)):
        settings = load_settings(argv)
        (tmp_path / "config.yaml").write_text(settings_to_yaml(settings), encoding="utf-8")
        assert load_settings([str(tmp_path / "config.yaml")]) == settings == settings.resolve()


def test_values_are_read_by_the_type_of_their_field(small: str) -> None:
    words = "--learning_rate 3e-4 --max_steps 1e3 --warmup_steps 0.05 --packing false --bf16 --report_to=all"
    settings = load_settings([small, *words.split(), "--save-steps=7"])
    assert (settings.learning_rate, settings.max_steps, settings.warmup_steps) == (3e-4, 1000, 0.05)
    assert (settings.packing, settings.bf16, settings.report_to, settings.save_steps) == (False, True, ["all"], 7)
    assert isinstance(settings.max_steps, int)
    assert isinstance(load_settings([small, "--warmup_steps", "20"]).warmup_steps, int)


@pytest.mark.parametrize("name", ["2024", "1.10", "007", "2024-01-02", "1e3"])
def test_text_that_looks_like_a_number_stays_as_written(tmp_path: Path, name: str) -> None:
    assert load_settings([write(tmp_path, **SIZES, run_name=name)]).run_name == name


def test_null_means_the_default(tmp_path: Path) -> None:
    file = write(tmp_path, model="llama2-7b", learning_rate="null", save_steps="null", eval_dataset_path="data/eval")
    settings = load_settings([file, "--eval_dataset_path", "null"])
    assert (settings.learning_rate, settings.save_steps, settings.eval_dataset_path) == (3e-4, 1000, None)


def test_wsd_decays_over_a_fifth_unless_told(small: str) -> None:
    assert load_settings([small, "--lr_scheduler_type", "wsd"]).decay_steps == 0.2
    assert load_settings([small, "--lr_scheduler_type", "warmup_stable_decay", "--decay_steps", "9"]).decay_steps == 9


def test_an_unknown_key_is_answered_with_the_nearest(small: str, tmp_path: Path) -> None:
    assert "unknown setting 'lerning_rate'; the nearest is 'learning_rate'" in refusal(small, "--lerning_rate", "1")
    assert "nearest is 'num_train_epochs'" in refusal(write(tmp_path, num_train_epoch=1))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("learning_rate", "fast", "learning_rate: 'fast' is not valid, expected a number"),
        ("learning_rate", "nan", "expected a number"),
        ("max_steps", "1.5", "max_steps: '1.5' is not valid, expected a whole number"),
        ("max_steps", "true", "expected a whole number"),
        ("bf16", "maybe", "bf16: 'maybe' is not valid, expected true or false"),
        ("lr_scheduler_type", "polynomial", "expected one of cosine, linear, constant, wsd"),
        ("attn_implementation", "flash_attention_2", "expected one of sdpa, eager"),
        ("optim", "adafactor", "expected one of adamw_torch_fused"),
        ("warmup_steps", "soon", "expected a whole number or a number"),
        ("report_to", "mlflow", "report_to: mlflow is not one of none, wandb, tensorboard, all"),
        ("model", "llama9-7b", "no 'llama9-7b'; the nearest is"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(small: str, key: str, value: str, expected: str) -> None:
    assert expected in refusal(small, f"--{key}={value}")


def test_yaml_types_are_checked_too(tmp_path: Path) -> None:
    assert "max_steps: True is not valid" in refusal(write(tmp_path, max_steps="yes"))
    assert "output_dir: True is not valid, expected text" in refusal(write(tmp_path, output_dir="yes"))
    assert "max_steps: '2024-01-02' is not valid" in refusal(write(tmp_path, max_steps="2024-01-02"))
    assert "report_to: [1] is not valid, expected a list of names" in refusal(write(tmp_path, report_to="[1]"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--num_key_value_heads 3", "num_attention_heads (4) must be a multiple of num_key_value_heads (3)"),
        ("--hidden_size 66", "hidden_size (66) must be a multiple of num_attention_heads (4)"),
        ("--head_dim 15", "head_dim (15) must be even"),
        ("--max_length 9 --max_position_embeddings 8", "max_length (9) is longer than max_position_embeddings (8)"),
        ("--max_train_tokens 5", "max_steps and max_train_tokens are set"),
        ("--global_batch_tokens 4096 --gradient_accumulation_steps 2", "are both set"),
        ("--min_lr_ratio 1.5", "min_lr_ratio: 1.5 is out of range, it must be at least 0 and at most 1"),
        ("--adam_beta2 1", "adam_beta2: 1.0 is out of range, it must be at least 0 and below 1"),
        ("--warmup_steps 1.5", "warmup_steps: 1.5 is neither a whole number of steps nor a share"),
        ("--warmup_steps -1", "warmup_steps: -1 is out of range"),
        ("--decay_steps 5", "decay_steps belongs to lr_scheduler_type wsd, and this run has cosine"),
        ("--learning_rate 0", "learning_rate: 0.0 is out of range, it must be above 0"),
        ("--per_device_train_batch_size 0", "per_device_train_batch_size: 0 is out of range"),
        ("--max_length 1", "max_length: 1 leaves no token to predict"),
        ("--seed -1", "seed: -1 is out of range, it must be at least 0"),
        ("--seed 9223372036854775808", "seed: 9223372036854775808 is out of range, it must be below 2^63"),
        ("--attn_implementation eager", "eager cannot keep the documents of a packed row apart: set packing: false"),
    ],
)
def test_an_impossible_combination_is_refused(small: str, words: str, expected: str) -> None:
    assert expected in refusal(small, *words.split())


def test_what_is_just_possible_is_accepted(small: str) -> None:
    assert load_settings([small, "--attn_implementation", "eager", "--packing", "false"]).packing is False
    assert load_settings([small, "--seed", str(2**63 - 1)]).seed == 2**63 - 1


def test_incomplete_sizes_are_listed(tmp_path: Path) -> None:
    assert "missing: intermediate_size, num_hidden_layers, num_attention_heads, vocab_size" in refusal(
        write(tmp_path, hidden_size=64)
    )


def test_scaled_rope_needs_a_longer_context() -> None:
    assert "must exceed the 8192" in refusal("--model", "llama3.1-8b", "--max_position_embeddings", "4096")


def test_words_that_are_no_settings_are_refused(small: str) -> None:
    assert "'stray' does not belong to a setting" in refusal(small, "--bf16", "true", "stray")
    assert "--max_steps needs a value" in refusal(small, "--max_steps")
    assert "'-x' does not belong to a setting" in refusal(small, "-x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x 1\nb: *x\n", "line 1: YAML anchors and aliases are not used here"),
        ("optimizer:\n  lr: 1\n", "line 2: settings are flat"),
        ("report_to: [[a]]\n", "line 1: settings are flat"),
        ("[" * 100_000, "line 1: settings are flat"),
        ("max_steps: 1\nmax_steps: 2\n", "max_steps is set more than once"),
        ("- a\n- b\n", "expected `key: value` lines, found list"),
        ("a: b: c\n", "line 1: not valid YAML: mapping values are not allowed here"),
        ("a: \x07\n", "not valid YAML: special characters are not allowed"),
        ("run_name: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        ("#" * 2**21, "is too long for a settings file"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    message = refusal(write(tmp_path, text))
    assert expected in message and "run.yaml" in message


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00\x01")
    assert "not a text file in UTF-8" in refusal(str(tmp_path / "run.yaml"))


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_settings([str(tmp_path / "nothing.yaml")])


def test_existing_weights_bring_their_sizes(tmp_path: Path) -> None:
    config = {"model_type": "llama", **SIZES, "rope_theta": 20000.0, "max_position_embeddings": 256}
    (tmp_path / "config.json").write_text(json.dumps(config))
    settings = load_settings(["--model_name_or_path", str(tmp_path)])
    assert (settings.hidden_size, settings.rope_theta, settings.max_length, settings.head_dim) == (64, 20000.0, 256, 16)
    assert "hidden_size: 128 is asked for, but the weights" in refusal(
        "--model_name_or_path", str(tmp_path), "--hidden_size", "128"
    )
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "mistral"}))
    assert "is a mistral model, not a llama" in refusal("--model_name_or_path", str(tmp_path))


def test_weights_that_are_nowhere_are_named(tmp_path: Path) -> None:
    assert "neither a folder with a config.json" in refusal("--model_name_or_path", str(tmp_path))
    assert "local Hub cache (a dry run does not download)" in refusal("--model_name_or_path", "a/b", "--dry_run")


def test_help_prints_the_table(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        load_settings(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "learning_rate: float | None = None  # peak [3e-4]" in text and "def resolve" not in text


@pytest.mark.parametrize("recipe", ["quickstart", "llama1", "llama2", "llama3"])
def test_recipes_load(root: Path, recipe: str) -> None:
    settings = load_settings([str(root / "recipes" / "pretrain" / f"{recipe}.yaml")])
    assert settings.dataset_path and settings.eval_dataset_path and settings.tokenizer_name_or_path
