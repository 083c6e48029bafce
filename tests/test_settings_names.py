"""Names from transformers 4, TRL and older scripts: read with a warning, or refused with the reason."""

from pathlib import Path

import pytest

from llama_train.settings import load_settings


@pytest.fixture
def small(tmp_path: Path) -> str:
    """A YAML file with the sizes of a small model."""
    file = tmp_path / "run.yaml"
    sizes = "hidden_size: 64\nintermediate_size: 176\nnum_hidden_layers: 2\nnum_attention_heads: 4\nvocab_size: 512\n"
    file.write_text(sizes, encoding="utf-8")
    return str(file)


def refusal(*argv: str) -> str:
    """The one line with which these arguments are refused."""
    with pytest.raises(ValueError) as caught:
        load_settings(list(argv))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "value", "new", "expected"),
    [
        ("warmup_ratio", "0.03", "warmup_steps", 0.03),
        ("gradient_checkpointing", "true", "activation_checkpointing", True),
        ("no_cuda", "true", "use_cpu", True),
        ("block_size", "128", "max_length", 128),
        ("max_seq_length", "128", "max_length", 128),
        ("per_gpu_train_batch_size", "3", "per_device_train_batch_size", 3),
        ("lr_scheduler", "linear", "lr_scheduler_type", "linear"),
        ("tokenizer_name", "tok", "tokenizer_name_or_path", "tok"),
        ("torch_dtype", "float32", "bf16", False),
        ("torch_dtype", "torch.bfloat16", "bf16", True),
        ("overwrite_output_dir", "true", "resume_from_checkpoint", "none"),
        ("fp16", "false", "bf16", True),
        ("save_safetensors", "true", "bf16", True),
        ("evaluation_strategy", "steps", "eval_steps", 500),
        ("logging_dir", "logs", "logging_steps", 10),
    ],
)
def test_old_names_are_read_with_a_warning(
    small: str, capsys: pytest.CaptureFixture, old: str, value: str, new: str, expected: object
) -> None:
    assert getattr(load_settings([small, f"--{old}", value]), new) == expected
    assert capsys.readouterr().err.startswith(f"warning: {old} ")


@pytest.mark.parametrize(
    ("old", "value", "reason"),
    [
        ("fp16", "true", "use bf16"),
        ("torch_dtype", "float16", "expected one of bfloat16, auto, float32"),
        ("save_safetensors", "false", "always saved as safetensors"),
        ("eval_strategy", "epoch", "every eval_steps"),
        ("deepspeed", "ds.json", "accelerate launch --config_file"),
    ],
)
def test_old_settings_without_counterpart_are_refused_with_the_reason(
    small: str, old: str, value: str, reason: str
) -> None:
    assert reason in refusal(small, f"--{old}", value)


def test_old_and_new_name_together_are_refused(small: str) -> None:
    message = refusal(small, "--warmup_ratio", "0.1", "--warmup_steps", "3")
    assert "warmup_ratio is the old name of warmup_steps, and both are set" in message


def test_two_old_names_for_one_setting_are_refused(small: str) -> None:
    message = refusal(small, "--block_size", "64", "--max_seq_length", "128")
    assert message == "block_size and max_seq_length both mean max_length here: give max_length once"


@pytest.mark.parametrize("ratio", ["1", "1.0", "2"])
def test_a_warmup_ratio_never_becomes_a_number_of_steps(small: str, ratio: str) -> None:
    assert f"warmup_ratio: {ratio} must be a share of the run below 1" in refusal(small, "--warmup_ratio", ratio)


def test_transformers_values_mean_what_they_mean_there(small: str) -> None:
    assert load_settings([small, "--lr_scheduler_type", "constant_with_warmup"]).lr_scheduler_type == "constant"
    assert load_settings([small, "--resume_from_checkpoint", "true"]).resume_from_checkpoint == "auto"
    assert load_settings([small, "--max_steps", "-1"]).num_train_epochs == 1.0
