"""What was asked of the launcher is what runs, or an error that names both."""

import json

import pytest

from llama_train.settings import PretrainSettings
from llama_train.train import engine

LAUNCHED = {"ACCELERATE_MIXED_PRECISION": "no"}
TWO = LAUNCHED | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}


@pytest.fixture
def settings(tmp_path) -> PretrainSettings:
    return PretrainSettings(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=96,
        max_steps=2,
        output_dir=str(tmp_path),
        use_cpu=True,
    ).resolve()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ("single", 1)),
        (LAUNCHED, ("single", 1)),
        (TWO, ("ddp", 2)),
        (TWO | {"ACCELERATE_USE_DEEPSPEED": "true"}, ("zero2", 2)),
        (TWO | {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, ("zero3", 2)),
        (TWO | {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, ("fsdp2", 2)),
    ],
)
def test_the_launcher_environment_says_what_was_asked(environment, expected):
    assert engine.asked(environment) == expected


def test_a_deepspeed_file_says_its_stage(tmp_path):
    file = tmp_path / "ds.json"
    file.write_text(json.dumps({"zero_optimization": {"stage": 1}}))
    environment = TWO | {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)}
    assert engine.asked(environment) == ("zero1", 2)


def test_two_processes_asked_for_and_one_started_is_an_error():
    with pytest.raises(ValueError, match=r"starts only one: use --config_file recipes/accelerate/ddp\.yaml"):
        engine.asked(LAUNCHED | {"MASTER_ADDR": "127.0.0.1"})  # what `accelerate launch --cpu --num_processes 2` leaves


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, "mixed_precision: fp16, the run's YAML says bf16: true"),
        (
            {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_CONFIG_DS_FIELDS": "zero_stage,mixed_precision"},
            "mixed_precision: no, the run's YAML says bf16: true",
        ),
        (
            {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "8"},
            "gradient_accumulation_steps: 8, .* gradient_accumulation_steps: 2",
        ),
        ({"ACCELERATE_GRADIENT_CLIPPING": "0.5"}, "gradient_clipping: 0.5, .* max_grad_norm: 1.0"),
    ],
)
def test_a_launcher_that_disagrees_with_the_yaml_is_an_error_naming_both(settings, said, message):
    with pytest.raises(ValueError, match=message):
        engine.check_launcher_agrees(settings, 2, said)


def test_a_deepspeed_file_that_disagrees_is_an_error(settings, tmp_path):
    file = tmp_path / "ds.json"
    file.write_text(json.dumps({"gradient_clipping": 0.5, "gradient_accumulation_steps": "auto"}))
    with pytest.raises(ValueError, match="gradient_clipping: 0.5"):
        engine.check_launcher_agrees(settings, 2, {"ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)})


def test_a_launcher_that_agrees_or_says_nothing_passes(settings):
    agreeing = {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "2"}
    for said in ({}, LAUNCHED, agreeing, {"ACCELERATE_GRADIENT_CLIPPING": "auto"}):
        engine.check_launcher_agrees(settings, 2, said)


def test_fsdp_without_gpu_is_refused(settings, monkeypatch):
    for key, value in (TWO | {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}).items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ValueError, match="fsdp2 needs GPUs: .* 2 unsynchronised models"):
        engine.build_accelerator(settings, 1)


def test_deepspeed_without_a_compiler_is_one_clear_line(settings, monkeypatch):
    for key, value in (TWO | {"ACCELERATE_USE_DEEPSPEED": "true", "PATH": "/nowhere"}).items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ValueError, match="no C\\+\\+ compiler: install g\\+\\+"):
        engine.build_accelerator(settings, 1)
