"""Chat templates: the published formats letter by letter, and refusals that say where and why."""

import pytest
from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from llama_train.tokenizers import chat
from tests.tokenizers.chats import ASSISTANT, SYSTEM, TOOL, TOOLS, USER, call, said


def render(name, messages, **given):
    """The text that transformers makes of `messages`; no vocabulary is needed for it."""
    bos, eos = ("<s>", "</s>") if name == "llama2" else ("<|begin_of_text|>", "<|end_of_text|>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token=bos, eos_token=eos)
    return tokenizer.apply_chat_template(messages, chat_template=chat.chat_template(name), tokenize=False, **given)


# The formats as published, written out: B and E open and close a header.
B, E, DATED = "<|start_header_id|>", "<|end_header_id|>\n\n", "Cutting Knowledge Date: December 2023\nToday Date: "
CHAT = said((SYSTEM, " Be brief. "), (USER, "\nHi {{ 7 * 7 }} {% x %} "), (ASSISTANT, " Hello! \n"), (USER, "Bye"))


def test_llama2_is_metas_format():
    assert render("llama2", CHAT[1:]) == (
        "<s>[INST] Hi {{ 7 * 7 }} {% x %} [/INST] Hello! </s><s>[INST] Bye [/INST]"  # content is never evaluated
    )
    assert render("llama2", CHAT) == (
        "<s>[INST] <<SYS>>\n Be brief. \n<</SYS>>\n\n\nHi {{ 7 * 7 }} {% x %} [/INST] Hello! </s><s>[INST] Bye [/INST]"
    )
    assert render("llama2", CHAT, add_generation_prompt=True) == render("llama2", CHAT)


def test_llama3_is_metas_format():
    expected = (
        f"<|begin_of_text|>{B}system{E}Be brief.<|eot_id|>{B}user{E}Hi {{{{ 7 * 7 }}}} {{% x %}}<|eot_id|>"
        f"{B}assistant{E}Hello!<|eot_id|>{B}user{E}Bye<|eot_id|>"
    )
    assert render("llama3", CHAT) == expected
    assert render("llama3", CHAT, add_generation_prompt=True) == expected + f"{B}assistant{E}"
    assert render("llama3", CHAT[3:]) == f"<|begin_of_text|>{B}user{E}Bye<|eot_id|>"


def test_llama31_and_32_always_have_a_dated_system_message(monkeypatch):
    class Clock(chat_template_utils.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 2, 3)

    monkeypatch.setattr(chat_template_utils, "datetime", Clock)
    dates = {"llama3.1": "26 Jul 2024", "llama3.2": "03 Feb 2031"}
    for name, date in dates.items():
        assert render(name, CHAT[3:], add_generation_prompt=True) == (
            f"<|begin_of_text|>{B}system{E}{DATED}{date}\n\n<|eot_id|>{B}user{E}Bye<|eot_id|>{B}assistant{E}"
        )
        assert render(name, CHAT[:3], date_string="1 May 2025") == (
            f"<|begin_of_text|>{B}system{E}{DATED}1 May 2025\n\nBe brief.<|eot_id|>"
            f"{B}user{E}Hi {{{{ 7 * 7 }}}} {{% x %}}<|eot_id|>{B}assistant{E}Hello!<|eot_id|>"
        )


FORMAT = (
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
    "Do not use variables.\n\n"
)
LISTED = """{
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather, 'now' & <here>",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {
                    "type": "string"
                }
            },
            "required": [
                "city"
            ]
        }
    }
}

"""
ASKED = [
    *said((USER, " Paris? ")),
    call("weather", {"city": "Zürich", "days": [1, 2]}, None),
    *said((TOOL, {"sky": "blue"}), (ASSISTANT, "Sun.")),
]


def test_llama31_tools_their_calls_and_results():
    rest = (
        f' Paris? {B}assistant{E}{{"name": "weather", "parameters": {{"city": "Zürich", "days": [1, 2]}}}}<|eot_id|>'
        f'{B}ipython{E}{{"sky": "blue"}}<|eot_id|>{B}assistant{E}Sun.<|eot_id|>'
    ).replace(" Paris? ", "Paris?<|eot_id|>")
    start = f"<|begin_of_text|>{B}system{E}Environment: ipython\n{DATED}9 Mar 2025\n\n"
    with_user = (
        "Given the following functions, please respond with a JSON for a function call with its proper arguments that best "
        "answers the given prompt.\n\n"
    )
    with_system = (
        "You have access to the following functions. To call a function, please respond with JSON for a function call."
    )
    for name in ("llama3.1", "llama3.2"):
        kw = {"tools": TOOLS, "date_string": "9 Mar 2025"}
        assert render(name, ASKED, **kw) == f"{start}<|eot_id|>{B}user{E}{with_user}{FORMAT}{LISTED}{rest}"
        assert render(name, ASKED, tools_in_user_message=False, **kw) == (
            f"{start}{with_system}{FORMAT}{LISTED}<|eot_id|>{B}user{E}{rest}"
        )
        assert render(name, ASKED, custom_tools=TOOLS, date_string="9 Mar 2025") == render(name, ASKED, **kw)


def test_results_are_json_and_so_are_arguments_given_as_text():
    results = ["25 C", {"a": None}, [1, "é"], 2.5, True, '{"a": 1}']
    ends = ['"25 C"', '{"a": null}', '[1, "é"]', "2.5", "true", r'"{\"a\": 1}"']
    for result, end in zip(results, ends, strict=True):
        for role in (TOOL, "ipython"):
            text = render("llama3.1", said((USER, "x"), (role, result)))
            assert text.endswith(f"{B}ipython{E}{end}<|eot_id|>")
    for name in ("llama3.1", "llama3.2", "chatml"):
        as_text = [ASKED[0], call("weather", ' {"city": "Zürich", "days": [1, 2]}\n'), *ASKED[2:]]
        assert render(name, as_text, date_string="x") == render(name, ASKED, date_string="x")


def test_llama31_builtin_tools_end_the_message_and_not_the_turn():
    messages = [*said((USER, "Look.")), call("brave_search", {"query": 'the "sun"', "n": 3}), *said((TOOL, ["a"]))]
    rest = f'{B}ipython{E}["a"]<|eot_id|>'
    for name in ("llama3.1", "llama3.2"):
        assert render(name, messages, builtin_tools=["brave_search", "wolfram_alpha"], date_string="d") == (
            f"<|begin_of_text|>{B}system{E}Environment: ipython\nTools: brave_search, wolfram_alpha\n\n{DATED}d\n\n<|eot_id|>"
            f"{B}user{E}Look.<|eot_id|>"
            f'{B}assistant{E}<|python_tag|>brave_search.call(query="the "sun"", n="3")<|eom_id|>{rest}'
        )
        code = [messages[0], call("code_interpreter", {"code": "print(1)"}), messages[2]]
        assert render(name, code, builtin_tools=["code_interpreter"], date_string="d") == (
            f"<|begin_of_text|>{B}system{E}Environment: ipython\n\n{DATED}d\n\n<|eot_id|>{B}user{E}Look.<|eot_id|>"
            f"{B}assistant{E}<|python_tag|>print(1)<|eom_id|>{rest}"
        )
        custom = [messages[0], call("weather", {}), messages[2]]
        assert f'{B}assistant{E}{{"name": "weather", "parameters": {{}}}}<|eom_id|>' in render(
            name, custom, builtin_tools=["brave_search"]
        )


def test_chatml_with_tools_as_hermes_and_qwen_have_them():
    two = call("weather", {"city": "Rome"}, "Both.")
    two["tool_calls"].append({"type": "function", "function": {"name": "clock", "arguments": "{}"}})
    messages = [*said((SYSTEM, "Be brief."), (USER, " Rome?\n")), two]
    messages += said((TOOL, "sun"), (TOOL, {"h": 1}), (ASSISTANT, "Sun at 1."))
    assert render("chatml", messages, add_generation_prompt=True) == (
        "<|begin_of_text|><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Rome?\n<|im_end|>\n"
        '<|im_start|>assistant\nBoth.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nsun\n</tool_response>\n"
        '<tool_response>\n{"h": 1}\n</tool_response><|im_end|>\n'
        "<|im_start|>assistant\nSun at 1.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render("chatml", messages[1:2], tools=[{"name": "f"}, {"name": "g"}]) == (
        "<|begin_of_text|><|im_start|>system\n# Tools\n\n"
        "You may call one or more functions to assist with the user query.\n\nYou are provided with function signatures "
        'within <tools></tools> XML tags:\n<tools>\n{"name": "f"}\n{"name": "g"}\n</tools>\n\n'
        "For each function call, return a json object with function name and arguments within <tool_call></tool_call> "
        'XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n Rome?\n<|im_end|>\n"
    )


def test_a_final_message_can_be_continued():
    ends = {"llama2": "[/INST] Once upon", "chatml": "<|im_start|>assistant\nOnce upon"}
    for name in chat.CHAT_TEMPLATES:
        text = render(name, said((USER, "Tell."), (ASSISTANT, "Once upon")), continue_final_message=True)
        assert text.endswith(ends.get(name, f"{B}assistant{E}Once upon"))


LATER = said((USER, "a"), (SYSTEM, "b"))
L31 = ("llama3.1", "llama3.2")
SUN = said((USER, "How is it?"), (ASSISTANT, "Sunny."), (USER, "Sure?"), (ASSISTANT, "Yes."))


def asked(name, arguments, content=""):
    return [*said((USER, "a")), call(name, arguments, content)]


TWICE = said((USER, "a")) + [call("f", {}) | {"tool_calls": call("f", {})["tool_calls"] * 2}]
REFUSED = [
    (("llama2",), said((USER, "a"), (USER, "b")), {}, r"messages\[1\] has the role user .* wants assistant: .* turns"),
    (("llama2",), said((SYSTEM, "a"), (ASSISTANT, "b")), {}, r"messages\[1\] has the role assistant .* wants user"),
    (("llama2",), said((SYSTEM, "a")), {}, "system message inside the first user message, and there is none"),
    (("llama2",), LATER, {}, r"messages\[1\] has the role system"),
    (("llama3", *L31, "chatml"), LATER, {}, r"messages\[1\] has the role system: a system message comes first"),
    (("llama3", *L31, "chatml"), said((USER, "a"), ("critic", "b")), {}, r"\[1\] has the role critic: .* knows system"),
    (("llama3",), said((USER, "a"), (TOOL, "b")), {}, r"\[1\] has the role tool.*llama3.1"),
    (chat.CHAT_TEMPLATES, said((USER, None)), {}, r"messages\[0\] \(user\) has no text as its content: give a string"),
    (chat.CHAT_TEMPLATES, said((USER, "a"), (ASSISTANT, None)), {}, r"messages\[1\] \(assistant\) has no text"),
    (chat.CHAT_TEMPLATES, said((SYSTEM, ["a"]), (USER, "b")), {}, r"messages\[0\] \(system\) has no text"),
    ((*L31, "chatml"), said((USER, "a"), (TOOL, None)), {}, r"\[1\] \(tool\) has no content: give the tool's result"),
    (("llama2", "llama3"), SUN, {"tools": TOOLS}, "has no tools: leave them out, or use the template llama3.1"),
    (("llama2", "llama3"), asked("f", {}), {}, r"messages\[1\] calls tools, which Llama \d's"),
    (L31, said((SYSTEM, "a")), {"tools": TOOLS}, r"first user message, and messages\[1\] is none: .*message=False"),
    (L31, said((ASSISTANT, "a")), {"tools": TOOLS}, r"first user message, and messages\[0\] is none"),
    (L31, TWICE, {}, r"messages\[1\] makes 2 tool calls: the format has one a message"),
    (L31, asked("f", {}, "text"), {}, r"messages\[1\] has text beside its tool call"),
    (L31, asked("f", 7), {"builtin_tools": ["f"]}, "calls f: the arguments of a built-in tool must be a"),
    (
        L31,
        asked("code_interpreter", {}),
        {"builtin_tools": ["code_interpreter"]},
        "calls code_interpreter without code",
    ),
    ((*L31, "chatml"), asked("f", 7), {}, r"\[1\] calls f: its arguments must be a dictionary, or its JSON"),
    ((*L31, "chatml"), asked("f", "x"), {}, r"\[1\] calls f: its arguments must be a dictionary, or its JSON"),
    ((*L31, "chatml"), asked(None, {}), {}, r"messages\[1\] has a tool call without a name"),
    ((*L31, "chatml"), [call("f", {}) | {"role": USER}], {}, r"messages\[0\] has the role user and calls tools"),
    (("chatml",), SUN, {"builtin_tools": ["f"]}, "custom_tools and builtin_tools are Llama 3.1's"),
]


@pytest.mark.parametrize(("names", "messages", "given", "words"), REFUSED)
def test_what_a_format_cannot_hold_is_refused_with_where_and_why(names, messages, given, words):
    for name in names:
        with pytest.raises(TemplateError, match=words) as refusal:
            render(name, messages, **given)
        assert "\n" not in str(refusal.value)


def test_empty_tools_and_tool_calls_are_none_at_all():
    chatted = [message | {"tool_calls": None} for message in SUN[:1]] + [
        message | {"tool_calls": []} for message in SUN[1:]
    ]
    for name in chat.CHAT_TEMPLATES:
        none = {"tools": [], "builtin_tools": None, "custom_tools": [], "tools_in_user_message": False}
        assert render(name, chatted, date_string="1 May 2025", **none) == render(name, SUN, date_string="1 May 2025")
    assert render("llama3.1", SUN, date_string=None) == render("llama3.1", SUN)


def test_llama32_is_llama31_but_for_the_date():
    old, new = (chat.chat_template(name).splitlines() for name in ("llama3.1", "llama3.2"))
    changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    assert len(changed) == 2 and changed[0][0].startswith("{#-") and "set date" in changed[1][1]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="no chat template 'llama4': choose one of llama2, llama3, llama3.1, .*chatml"):
        chat.chat_template("llama4")
    with pytest.raises(ValueError, match="no chat template '../llama3'"):
        chat.chat_template("../llama3")
