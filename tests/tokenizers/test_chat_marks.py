"""Chat templates, tokenised: the ids of the published formats, and marks on exactly what the assistant has to learn."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from llama_train.tokenizers import chat, folder, llama3, ranks
from tests.conftest import SHARED
from tests.tokenizers.chats import ASSISTANT, SYSTEM, TOOL, TOOLS, USER, call, said

TEXTS = [
    "What is the weather in Paris? The weather in Paris is sunny: 21 degrees.\n",
    "Hello! How are you? Fine.\n",
] * 20


@pytest.fixture(scope="module")
def llama3_tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    llama3.train_llama3(TEXTS, 310, folder, progress=False)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return tokenizer


@pytest.fixture(scope="module")
def llama2_tokenizer():
    """A small one of Llama 2's kind: spaces are ▁, one stands before every text, unknown letters are bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    specials = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=specials + [f"<0x{i:02X}>" for i in range(256)],
        initial_alphabet=list("INST[]/<>Y▁\n"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    state = json.loads(tokenizer.to_str()) | {"pre_tokenizer": None}
    state["added_tokens"] = state["added_tokens"][:3]  # a byte's name in a text is letters
    fast = Tokenizer.from_str(json.dumps(state))
    return PreTrainedTokenizerFast(tokenizer_object=fast, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@pytest.fixture
def tokenizer_of(llama2_tokenizer, llama3_tokenizer):
    def open_with(name):
        tokenizer = llama2_tokenizer if name == "llama2" else llama3_tokenizer
        tokenizer.chat_template = chat.chat_template(name)
        return tokenizer

    return open_with


# What the assistant has to learn, in order: content and the token that ends its turn; the rest is not marked.
SUN = said((USER, "What is the weather?"), (ASSISTANT, " The weather is sunny! "), (USER, "How?"), (ASSISTANT, "Fine."))
DONE = [*said((USER, "Hi")), call("weather", {"city": "Paris"}), *said((TOOL, "sunny"), (ASSISTANT, "Sunny."))]
LOOKED = [DONE[0], call("brave_search", {"query": "Paris"}), *DONE[2:]]
MARKED = [
    ("llama2", SUN, {}, [" The weather is sunny! </s>", " Fine. </s>"]),
    ("llama2", said((SYSTEM, "Be."), (USER, "Hi"), (ASSISTANT, "")), {}, ["  </s>"]),
    ("llama3", SUN, {}, ["The weather is sunny!<|eot_id|>", "Fine.<|eot_id|>"]),
    ("llama3", said((USER, "🇫🇷"), (ASSISTANT, "😀é 漢")), {}, ["😀é 漢<|eot_id|>"]),  # a letter of several tokens first
    ("chatml", SUN, {}, [" The weather is sunny! <|im_end|>", "Fine.<|im_end|>"]),
    (
        "chatml",
        DONE,
        {"tools": TOOLS},
        [
            '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call><|im_end|>',
            "Sunny.<|im_end|>",
        ],
    ),
]
for version in ("llama3.1", "llama3.2"):
    BRAVE = '<|python_tag|>brave_search.call(query="Paris")<|eom_id|>'
    MARKED += [
        (version, SUN, {}, ["The weather is sunny!<|eot_id|>", "Fine.<|eot_id|>"]),
        (version, LOOKED, {"builtin_tools": ["brave_search"]}, [BRAVE, "Sunny.<|eot_id|>"]),
        (
            version,
            DONE,
            {"tools": TOOLS},
            ['{"name": "weather", "parameters": {"city": "Paris"}}<|eot_id|>', "Sunny.<|eot_id|>"],
        ),
    ]


@pytest.mark.parametrize(("name", "messages", "given", "learned"), MARKED)
def test_exactly_the_answers_and_the_ends_of_turns_are_marked(tokenizer_of, name, messages, given, learned):
    tokenizer = tokenizer_of(name)
    given = given | {"date_string": "1 May 2025"}
    text = tokenizer.apply_chat_template(messages, tokenize=False, **given)
    rest, ids, mask = text, [], []
    for part in learned:  # the ids of each part alone: marked parts begin and end where tokens do
        before, _, rest = rest.partition(part)
        for piece, mark in ((before, 0), (part, 1)):
            # only after <s> and </s> does Llama 2's tokenizer put a space of its own in front
            bare = piece.removeprefix(" ") if name == "llama2" and mark else piece
            piece_ids = tokenizer(bare, add_special_tokens=False)["input_ids"]
            ids, mask = ids + piece_ids, mask + [mark] * len(piece_ids)
    last = tokenizer(rest, add_special_tokens=False)["input_ids"]
    encoded = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True, **given)
    assert encoded["input_ids"] == ids + last
    assert encoded["assistant_masks"] == mask + [0] * len(last)
    turns = text.count("</s>") if name == "llama2" else 1
    assert encoded["input_ids"].count(tokenizer.bos_token_id) == turns


def test_a_mark_around_the_header_too_would_be_noticed(tokenizer_of):
    tokenizer = tokenizer_of("llama3")
    header = '{{- "<|start_header_id|>" ~ message.role ~ "<|end_header_id|>\\n\\n" -}}'
    wrong = chat.chat_template("llama3").replace("{%- generation -%}", "{%- generation -%}" + header)
    encoded = tokenizer.apply_chat_template(
        SUN, chat_template=wrong, return_dict=True, return_assistant_tokens_mask=True
    )
    start = tokenizer.convert_tokens_to_ids("<|start_header_id|>")
    assert start in [i for i, m in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if m]


LONG = said(
    (SYSTEM, "Be brief.\n"),
    (USER, " Où est {{ x }}?\n\n[INST] "),
    (ASSISTANT, " 漢字,  two spaces\nand 21 lines  "),
    (USER, "How are you?"),
    (ASSISTANT, "Fine."),
    (USER, "Bye"),
)


def llama2_turns(messages, encode, bos, eos):
    """As Meta's code has it: a question and its answer are a text of their own, encoded between <s> and </s>."""
    system, *rest = [message["content"] for message in messages]
    rest[0] = f"<<SYS>>\n{system}\n<</SYS>>\n\n{rest[0]}"
    ids = []
    for question, answer in zip(rest[:-1:2], rest[1::2], strict=True):
        ids += [bos, *encode(f"[INST] {question.strip()} [/INST] {answer.strip()} "), eos]
    return [*ids, bos, *encode(f"[INST] {rest[-1].strip()} [/INST]")]


def test_llama2s_ids_are_those_of_every_turn_encoded_alone(tokenizer_of):
    tokenizer = tokenizer_of("llama2")

    def encode(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    assert tokenizer.apply_chat_template(LONG, return_dict=False) == llama2_turns(LONG, encode, 1, 2)
    assert tokenizer.apply_chat_template(LONG, return_dict=False) != llama2_turns(LONG[:1] + LONG[3:], encode, 1, 2)


def published(name):
    path = SHARED / "realdata" / "tokenizers" / name
    if not path.is_file():
        pytest.skip(f"{path} is not here: Meta's own tokenizers exist only on some machines")
    return path


def test_metas_llama2_tokenizer_gives_the_ids_that_sentencepiece_gives_every_turn():
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed: the oracle here")
    path = published("llama2-tokenizer.model")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=folder.open_tokenizer(path), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = chat.chat_template("llama2")
    engine = sentencepiece.SentencePieceProcessor(model_file=str(path))
    expected = llama2_turns(LONG, engine.encode, engine.bos_id(), engine.eos_id())
    encoded = tokenizer.apply_chat_template(LONG, return_dict=True, return_assistant_tokens_mask=True)
    assert encoded["input_ids"] == expected
    marked = [i for i, mark in zip(expected, encoded["assistant_masks"], strict=True) if mark]
    answers = [engine.encode(f"{LONG[i]['content'].strip()} ") for i in (2, 4)]
    assert marked == [*answers[0], 2, *answers[1], 2]


def test_metas_llama3_tokenizer_gives_the_ids_that_tiktoken_gives_the_published_format():
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed: its ids are the oracle here")
    path = published("meta-llama-3-8B.tiktoken")
    mergeable, specials = ranks.read_ranks(path)
    engine = tiktoken.Encoding("l3", pat_str=llama3.SPLIT_PATTERN, mergeable_ranks=mergeable, special_tokens=specials)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=folder.open_tokenizer(path), bos_token=llama3.BOS, eos_token=llama3.EOS
    )
    tokenizer.chat_template = chat.chat_template("llama3")
    text = "<|begin_of_text|>" + "".join(
        f"<|start_header_id|>{one['role']}<|end_header_id|>\n\n{one['content'].strip()}<|eot_id|>" for one in LONG
    )
    encoded = tokenizer.apply_chat_template(LONG, return_dict=True, return_assistant_tokens_mask=True)
    assert encoded["input_ids"] == engine.encode(text, allowed_special="all")
    assert encoded["input_ids"][:4] == [128000, 128006, 9125, 128007]  # a header: system is 9125
    marked = [i for i, mark in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mark]
    answers = [engine.encode(LONG[i]["content"].strip()) for i in (2, 4)]
    assert marked == [*answers[0], 128009, *answers[1], 128009]


def test_a_special_tokens_name_in_a_text_becomes_the_token_as_the_docstring_warns(tokenizer_of):
    tokenizer = tokenizer_of("llama3.1")
    chatted = said((USER, "say <|eot_id|>"))
    count = tokenizer.apply_chat_template(chatted, return_dict=True)["input_ids"].count
    assert count(tokenizer.convert_tokens_to_ids("<|eot_id|>")) == 3  # system, user and the one in the text


@pytest.mark.slow
@pytest.mark.parametrize("name", chat.CHAT_TEMPLATES)
def test_trl_trains_on_the_answers_only_with_ours_and_refuses_the_hubs(tokenizer_of, tmp_path, name):
    trl = pytest.importorskip("trl", reason="TRL is not installed: this is its SFTTrainer with our templates")
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer_of(name)
    tokenizer.pad_token = tokenizer.eos_token
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=1024,
    )
    arguments = {"output_dir": str(tmp_path), "assistant_only_loss": True, "max_steps": 1, "report_to": "none"}
    arguments |= {"use_cpu": True, "bf16": False, "per_device_train_batch_size": 2, "save_strategy": "no"}
    rows = [{"messages": SUN}, {"messages": DONE if "." in name or name == "chatml" else SUN}]

    def trainer():
        return trl.SFTTrainer(
            model=LlamaForCausalLM(config),
            args=trl.SFTConfig(**arguments, max_length=1024, disable_tqdm=True),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )

    ours = trainer()
    for row, prepared in zip(rows, ours.train_dataset, strict=True):
        whole = tokenizer.apply_chat_template(row["messages"], return_dict=True, return_assistant_tokens_mask=True)
        assert prepared["input_ids"] == whole["input_ids"]
        pairs = zip(whole["input_ids"], whole["assistant_masks"], strict=True)
        assert prepared["labels"] == [i if mark else -100 for i, mark in pairs]
        assert sum(whole["assistant_masks"]) > 4
    assert ours.train().training_loss > 0
    if "." in name:
        stock = Path(trl.__file__).parent / "chat_templates" / f"{name.replace('.', '_')}.jinja"
        tokenizer.chat_template = stock.read_text(encoding="utf-8")
        with pytest.raises(ValueError, match="generation"):
            trainer()
