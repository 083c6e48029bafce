"""Chat templates against the Hub's, as TRL carries them: made-up conversations come out equal, letter by letter."""

import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from llama_train.tokenizers import chat
from tests.tokenizers.chats import ASSISTANT, SYSTEM, TOOL, TOOLS, USER, call, said

# The Hub's templates, where TRL is installed: equal letter by letter on conversations made up at random.
PIECES = [
    "Hello",
    " ",
    "\n",
    "\t\u00a0",
    "{{ x }}",
    "{% if %}",
    "<b>&'\"\\",
    "Ünï 漢字 😀\u200d",
    '{"a": 1}',
    "[INST]",
    "1.",
]
VALUES = ["Rome", "", 'a "b"', "<é漢>", 7, 2.5, None, True, ["x", 1], {"deep": {"er": []}}]


def made_up(pick, tools, names):
    """A conversation of one to six turns; tool calls of `names` where there are tools."""

    def text():
        return "".join(pick.choices(PIECES, k=pick.randint(0, 6)))

    messages = said((SYSTEM, text())) if pick.random() < 0.5 else []
    for _ in range(pick.randint(1, 6)):
        messages += said((USER, text()))
        for _ in range(pick.choice([0, 0, 1, 2]) if tools else 0):
            name = pick.choice(names)
            values = VALUES[:4] if name == "brave_search" else VALUES
            keys = pick.sample(["city", "Größe", "a b", "items"], pick.randint(0, 3))
            messages.append(call(name, {key: pick.choice(values) for key in keys}, pick.choice(["", None])))
            result = pick.choice([text(), {"a": pick.choice(VALUES)}, [pick.choice(VALUES)], 21, 2.5])
            messages += said((pick.choice([TOOL, "ipython"]), result))
        messages += said((ASSISTANT, text()))
    return messages[: pick.randint(2, len(messages))] if not tools else messages


TOKENIZER = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>")


def unlike(template, stock, conversations, bos=""):
    """How many conversations `template` renders otherwise than the stock one, in front of whose text `bos` is put."""

    def render(which, messages, given):
        return TOKENIZER.apply_chat_template(messages, chat_template=which, tokenize=False, **given)

    return sum(render(template, *one) != bos + render(stock, *one) for one in conversations)


def stock_template(name):
    trl = pytest.importorskip("trl", reason="TRL is not installed: it carries the Hub's templates, the oracle here")
    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def llama_chats(name, count):
    pick = random.Random(name)
    for _ in range(count):
        given = {"add_generation_prompt": pick.random() < 0.5}
        if name != "llama3":
            given["date_string"] = "1 May 2025"
            given[pick.choice(["tools", "custom_tools"])] = pick.choice([None, TOOLS, TOOLS * 2])
            given |= pick.choice([{}, {"tools_in_user_message": pick.random() < 0.5}])
        if name == "llama3.1" and pick.random() < 0.4:
            given["builtin_tools"] = pick.choice(
                [["brave_search"], ["code_interpreter", "brave_search", "wolfram_alpha"]]
            )
        yield made_up(pick, name != "llama3", ["weather", "brave_search"]), given


@pytest.mark.parametrize("name", ["llama3", "llama3.1", "llama3.2"])
def test_made_up_conversations_come_out_as_with_the_hubs_template(name):
    stock, ours = stock_template(name.replace(".", "_")), chat.chat_template(name)
    assert unlike(ours, stock, llama_chats(name, 4000)) == 0
    slips = [("| trim", "")]
    if name != "llama3":
        slips += [("Do not use", " Do not use"), ("indent=4", "indent=2"), ('"Environment: ', '"Environment:')]
    for right, wrong in slips:
        assert right in ours and unlike(ours.replace(right, wrong), stock, llama_chats(name, 100)) > 0


def chatml_chats(count, always_system):
    """As Qwen's templates can take them: results are text, the role is tool."""
    pick = random.Random("chatml")
    for _ in range(count):
        messages = made_up(pick, True, ["weather", "brave_search"])
        for message in messages:
            if message["role"] in (TOOL, "ipython"):
                message |= {"role": TOOL, "content": str(message["content"])}
            elif message.get("tool_calls"):
                message["tool_calls"] = message["tool_calls"] * pick.choice([1, 1, 2])
                message["content"] = pick.choice(["", None, "text"])
        if always_system and messages[0]["role"] != SYSTEM:
            messages = said((SYSTEM, "Be brief.")) + messages
        yield messages, {"tools": pick.choice([None, TOOLS, TOOLS * 2]), "add_generation_prompt": pick.random() < 0.5}


@pytest.mark.parametrize(("stock", "always_system"), [("qwen3_instruct_2507", False), ("qwen2_5", True)])
def test_chatml_comes_out_as_with_qwens_templates_behind_the_beginning_of_text(stock, always_system):
    # Qwen 2.5 introduces itself where there is no system message; ours says nothing that was not given.
    stock, ours = stock_template(stock), chat.chat_template("chatml")
    assert unlike(ours, stock, chatml_chats(3000, always_system), "<s>") == 0
    for right, wrong in [("<tools>\\n", "<tools>"), ("}\\n</tool_call>", "}</tool_call>"), ("user\\n", "user")]:
        assert right in ours and unlike(ours.replace(right, wrong), stock, chatml_chats(100, always_system), "<s>") > 0


def test_where_the_hubs_template_strays_ours_does_not():
    stock, ours = stock_template("llama3_1"), chat.chat_template("llama3.1")
    as_text = said((USER, "a")) + [call("f", '{"b": 1}')]
    code = said((USER, "a")) + [call("code_interpreter", {"code": "1 + 1"})]
    seen = []
    for messages, given in [
        (as_text, {}),
        (code, {"builtin_tools": ["code_interpreter"]}),
        (as_text[:1], {"tools": []}),
    ]:
        for which in (stock, ours):
            text = TOKENIZER.apply_chat_template(messages, chat_template=which, tokenize=False, **given)
            seen.append(text)
    assert r'"parameters": "{\"b\": 1}"}' in seen[0] and '"parameters": {"b": 1}}' in seen[1]
    assert 'code_interpreter.call(code="1 + 1")' in seen[2] and "Tools: \n" in seen[2]
    assert "<|python_tag|>1 + 1<|eom_id|>" in seen[3] and "Tools" not in seen[3]
    assert "Given the following functions" in seen[4] and "Given" not in seen[5]
