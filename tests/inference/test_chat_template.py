"""Chat templates: rendered as transformers renders them, and errors in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf_builder import ARR, STR, U32, build, entry

from ggufrope.errors import InputError
from ggufrope.gguf.parse import read_header
from ggufrope.inference.chat_template import Chat, chat_of, final_prompt, own_template

ROOT = Path(__file__).resolve().parents[2]

CHATML = (
    "{%- for message in messages %}\n"
    "    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n"
    "    {%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}\n"
    "{%- endif %}\n"
)
HEADERS = (
    "{{ bos_token }}{% for message in messages %}{{ '<|head|>' + message['role'] + '<|end|>\\n\\n' + "
    "message['content'] | trim + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant<|end|>\\n\\n' }}{% endif %}"
)
STRICT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ bos_token }}{% for message in messages %}{% if message['role'] not in ['user'] %}{% continue %}{% endif %}"
    "[INST] {{ message['content'] }} [/INST]{% generation %}{% endgeneration %}{% endfor %}{{ {'a': '<ü>'} | tojson }}"
)
PARTS = (
    "{% for message in messages %}{% for part in message.content %}{% if part.type == 'text' %}"
    "{{ part.text }}{% endif %}{% endfor %}{% endfor %} ->"
)


@pytest.mark.parametrize("template", [CHATML, HEADERS, STRICT])
def test_transformers_renders_the_same(template: str) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(ROOT / "models" / "demo")
    prompt = "What is 1 < 2 & 'x'? {{ braces }} {% percent %}"
    expected = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        chat_template=template,
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    assert Chat(template, "<s>", "</s>").wrap(prompt) == expected


def test_by_hand() -> None:
    assert Chat(CHATML).wrap("Hi.\n") == (
        "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    assert Chat(HEADERS, "<s>", "</s>").wrap("Hi.") == "<s><|head|>user<|end|>\n\nHi.</s><|head|>assistant<|end|>\n\n"


def test_parts_where_a_template_wants_them() -> None:
    assert Chat(PARTS).wrap("Hi.") == "Hi. ->"


def test_the_first_token_is_not_doubled() -> None:
    assert Chat(HEADERS, "<s>", "</s>", adds_bos=True).wrap("Hi.").startswith("<|head|>user")
    assert Chat(CHATML, "", adds_bos=True).wrap("Hi.").startswith("<|im_start|>user")


def test_final_prompts() -> None:
    assert final_prompt(None, "A text. ", "It is") == "A text. It is"
    assert final_prompt(Chat("{{ messages[0].content }}|"), "A text. ", "It is") == "A text.|It is"


def test_the_date_is_the_same_every_day() -> None:
    assert Chat("{{ strftime_now('%Y-%m-%d') }} {{ messages[0].content }}").wrap("Hi.") == "2024-07-26 Hi."


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% if %}", "x.gguf: not a jinja2 template: Expected an expression"),
        ("{{ raise_exception('no\nsuch role') }}", "x.gguf: fails: no such role; --no-chat-template does without"),
        ("{{ messages[3].content }}", "x.gguf: fails: list object has no element 3"),
        ("{{ 1 / 0 }}", "x.gguf: fails: division by zero"),
        ("{{ ''.__class__.__mro__ }}", "x.gguf: fails: access to attribute '__class__'"),
        ("{% set _ = messages.append(1) %}", "x.gguf: fails: .*append.* unsafe"),
        ("Hello.", "x.gguf: leaves out what the user says"),
        ("{{ messages[0].content | upper }}", "x.gguf: fails|leaves out what the user says"),
    ],
)
def test_templates_that_cannot_be_used(template: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        Chat(template, where="x.gguf").wrap("Hi.")
    assert "\n" not in str(error.value)


TOKENS = [
    entry("tokenizer.ggml.tokens", ARR, ["<unk>", "<s>", "</s>"], STR),
    entry("tokenizer.ggml.bos_token_id", U32, 1),
    entry("tokenizer.ggml.eos_token_id", U32, 2),
]


def saved(path: Path, *entries: bytes) -> Path:
    path.write_bytes(build([entry("general.architecture", STR, "llama"), *entries]))
    return path


def test_a_file_s_own_template_and_tokens(tmp_path: Path) -> None:
    named = entry("tokenizer.chat_template.tool_use", STR, "TOOLS")
    header = read_header(saved(tmp_path / "m.gguf", *TOKENS, named, entry("tokenizer.chat_template", STR, HEADERS)))
    template = own_template(header)
    assert template == HEADERS
    assert chat_of(header, template, adds_bos=False).wrap("Hi.").startswith("<s><|head|>user")
    with pytest.raises(InputError, match=r"m\.gguf: tokenizer\.chat_template: leaves out"):
        chat_of(header, "TOOLS", adds_bos=False).wrap("Hi.")
    with pytest.raises(InputError, match=r"^mine\.jinja: leaves out"):
        chat_of(header, "TOOLS", adds_bos=False, where="mine.jinja").wrap("Hi.")


def test_files_without_a_template(tmp_path: Path) -> None:
    assert own_template(read_header(saved(tmp_path / "m.gguf"))) is None
    assert own_template(read_header(saved(tmp_path / "e.gguf", entry("tokenizer.chat_template", STR, " ")))) is None
    header = read_header(saved(tmp_path / "n.gguf"))
    assert (chat_of(header, "x", adds_bos=False).bos, chat_of(header, "x", adds_bos=False).eos) == ("", "")


def test_templates_that_are_not_for_plain_chat(tmp_path: Path) -> None:
    named = [entry(f"tokenizer.chat_template.{name}", STR, "x") for name in ("rag", "tool_use")]
    with pytest.raises(InputError, match=r"only under names \(rag, tool_use\), none for plain chat"):
        own_template(read_header(saved(tmp_path / "m.gguf", *named)))
    with pytest.raises(InputError, match="text is needed, found int"):
        own_template(read_header(saved(tmp_path / "i.gguf", entry("tokenizer.chat_template", U32, 7))))
