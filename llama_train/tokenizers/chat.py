"""Chat templates: the published formats of Llama 2 to 3.2 and ChatML, with the assistant's part marked for training.

| name | for | end of the assistant's turn |
|---|---|---|
| llama2 | Llama 2 | `</s>`; no tools; the system message stands in the first user message |
| llama3 | Llama 3 | `<|eot_id|>`; no tools |
| llama3.1 | Llama 3.1 | `<|eot_id|>`, or `<|eom_id|>` after a tool call where there are built-in tools |
| llama3.2 | Llama 3.2 | as llama3.1 |
| chatml | models without a format of their own | `<|im_end|>` |

Llama 1 was published without one. ChatML's `<|im_start|>` and `<|im_end|>` are in no Llama vocabulary: they have to be
added as special tokens (`special_names`), or the text holds their letters.

`{% generation %}` marks enclose what the assistant has to say, content or tool call and the token that ends its turn,
and never a header: transformers' `return_assistant_tokens_mask=True` and TRL's `assistant_only_loss=True` need them.

What a template reads beside the messages: `tools` (llama3.1, llama3.2, chatml); `custom_tools` in their place,
`builtin_tools` (such as `["brave_search", "code_interpreter"]`), `tools_in_user_message` (False: in the system message)
and `date_string` (llama3.1, llama3.2). llama3.1 says 26 Jul 2024 where no date is given; llama3.2 asks the clock, so
give one where the same text has to come out tomorrow.

**Equal to the published formats**: Llama 2's as Meta's `generation.py` builds it, Llama 3's and later ones as on the
Hub, Hermes' and Qwen's tool calls in ChatML. Where the Hub's templates for 3.1 and 3.2 stray from Meta's prompt
formats (github.com/meta-llama/llama-models), or lose or garble what they were given, these differ:

- arguments given as JSON text stand as they are, where the Hub's quote them once more; results are JSON in both, a text
  in quotes, as in Meta's examples;
- `code_interpreter`'s call is its code, and alone among `builtin_tools` it makes no empty `Tools:` line;
- 3.2 has the built-in tools too, for Meta's 3.2 keeps the code interpreter; the Hub's drops `builtin_tools`;
- `tool_calls` and tools that are None or empty are none at all, and a result `true` is JSON, not Python's `True`;
- refused, not dropped or misplaced: text beside a tool call, tools that find no user message in the first place, tools
  where the format has none, a later system message, unknown roles, content that is not text (the Hub's write `None`).

**Trap**: text is rendered as it is, so a special token's name inside a message becomes that token when the result is
tokenised, here as with every template. For a prompt from strangers pass `sanitize_control_tokens=True` to
`apply_chat_template`, where transformers has it. `[INST]` and `<<SYS>>` are letters to Llama 2 in any case.

**Trap**: ChatML keeps the spaces around a text, the others trim it. An answer that begins with a line break then shares
a token with the header's own, and that token is marked: strip answers for ChatML.
"""

from pathlib import Path

from llama_train.tokenizers.ranks import SPECIAL_NAME

CHAT_TEMPLATES = ("llama2", "llama3", "llama3.1", "llama3.2", "chatml")


def chat_template(name: str) -> str:
    """The Jinja text of one of `CHAT_TEMPLATES`, for a tokenizer's `chat_template`. Raises ValueError for another name."""
    if name not in CHAT_TEMPLATES:
        raise ValueError(f"there is no chat template {name!r}: choose one of {', '.join(CHAT_TEMPLATES)}")
    return (Path(__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def special_names(name: str) -> list[str]:
    """The special tokens `<|...|>` that a template writes: a tokenizer without them would spell them out in letters."""
    return list(dict.fromkeys(SPECIAL_NAME.findall(chat_template(name))))
