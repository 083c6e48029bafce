"""A sample of text from a checkpoint: the prompt goes on, word by word, on stdout; the speed follows on stderr."""

import sys
import time

import torch
from transformers import TextStreamer

from llama_train.pretrained import load_pretrained


def generate(
    checkpoint: str,
    prompt: str,
    max_new_tokens: int = 100,
    temperature: float = 0.8,
    top_p: float = 1.0,
    seed: int = 0,
) -> str:
    """Continue `prompt` and print the text while it is made; returns prompt and continuation.

    checkpoint: a Hugging Face folder (such as RUN/final) or a model on the Hub, with its tokenizer. temperature 0
    always takes the likeliest token; otherwise tokens are drawn, with `seed`, from the likeliest ones that together
    hold `top_p` of the probability. Raises OSError where there is no checkpoint, ValueError for a figure out of range.
    """
    if max_new_tokens < 1 or temperature < 0 or not 0 < top_p <= 1:
        raise ValueError(
            f"max_new_tokens {max_new_tokens} must be at least 1, temperature {temperature} at least 0, "
            f"top_p {top_p} above 0 and at most 1"
        )
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed: {seed} is out of range, it must be at least 0 and below 2^63")
    tokenizer, model = load_pretrained(checkpoint, dtype="auto")
    torch.manual_seed(seed)
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    sampling = {"temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {}
    started = time.perf_counter()
    with torch.no_grad():
        ids = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=temperature > 0,
            pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
            streamer=TextStreamer(tokenizer, skip_special_tokens=True),
            **sampling,
        )
    seconds = time.perf_counter() - started
    made = ids.shape[1] - inputs["input_ids"].shape[1]
    print(f"{made} tokens, {made / seconds:.1f} tokens/s on {model.device.type}", file=sys.stderr)
    return str(tokenizer.decode(ids[0], skip_special_tokens=True))
