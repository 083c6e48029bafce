"""A trained model with its tokenizer: from a run's folder, or from the Hub."""

import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from transformers import AutoTokenizer

from llama_train.model.llama import LlamaForCausalLM

TOKENIZERS = ("tokenizer.json", "tokenizer.model")  # either is enough
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def load_pretrained(checkpoint: str, dtype: Any) -> tuple[Any, Any]:
    """Tokenizer and model, ready to evaluate, on the GPU where there is one.

    checkpoint: a Hugging Face folder (such as RUN/final) or `owner/name` on the Hub. dtype: of the weights; "auto" is
    the one they are stored in. Raises OSError where there is no checkpoint, or one without a tokenizer.
    """
    _check_checkpoint(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return tokenizer, LlamaForCausalLM.from_pretrained(checkpoint, dtype=dtype, device_map=device).eval()


def _check_checkpoint(checkpoint: str) -> None:
    """Say in our words what is missing; transformers looks for any missing folder on the Hub, and blames the network."""
    folder = Path(checkpoint)
    if (folder / "config.json").is_file():
        if not any((folder / name).is_file() for name in TOKENIZERS):
            raise FileNotFoundError(
                f"{checkpoint} has no tokenizer: copy tokenizer.json and tokenizer_config.json there from the folder "
                "`tokenizer` beside the token shards (tokenizer_name_or_path lets a run save it)"
            )
        return
    # `runs/mine` has the form of a Hub name, but lies, or should lie, in a folder of ours
    local = folder.exists() or folder.parts[:1] == ("runs",) or Path(*folder.parts[:1]).is_dir()
    reason = ""
    if not local and HUB_NAME.fullmatch(checkpoint):
        try:
            hf_hub_download(checkpoint, "config.json")
            return
        except (OSError, ValueError) as error:
            reason = f"; the Hub: {' '.join(str(error).split())}"
    raise FileNotFoundError(
        f"{checkpoint} is no folder with config.json: give a run's final/ or a checkpoint-N/ "
        f"(or a model on the Hub as owner/name){reason}"
    )
