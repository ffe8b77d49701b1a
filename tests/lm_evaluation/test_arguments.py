"""What `ggufrope lm-eval` is told, without lm_eval: arguments, generation options, cuts, tokens, templates."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from gguf_builder import ARR, STR, U32, build, entry, tiny_llama

from ggufrope.errors import GgufError, InputError, UsageError
from ggufrope.gguf import read_header
from ggufrope.lm_eval.arguments import Arguments
from ggufrope.lm_eval.conversation import Template
from ggufrope.lm_eval.generation import Generation
from ggufrope.lm_eval.tokenizer import LmTokens
from ggufrope.lm_eval.truncation import Cuts, fit_pair, fit_prompt
from ggufrope.modelfile.model_file import ModelFile


def test_arguments_of_lm_eval_itself_change_nothing() -> None:
    given = {"path": "m.gguf", "n_ctx": 64, "share": False, "flash_attn": None}
    others = {"batch_size": "auto", "max_batch_size": 8, "device": "cuda:0", "tokenizer": "someone/something"}
    assert Arguments.read(given | others) == Arguments(Path("m.gguf"), n_ctx=64, share=False)
    assert Arguments.read({"path": 7}).path == Path("7")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "no file; path=FILE"),
        ({"path": ""}, "no file; path=FILE"),
        ({"pretrained": "m.gguf"}, "unknown argument 'pretrained': did you mean path?"),
        ({"path": "m", "max_length": 9}, "did you mean n_ctx?"),
        ({"path": "m", "kvtype": "f16"}, "did you mean kv_type?"),
        ({"path": "m", "thread": 2}, "did you mean threads"),
        ({"path": "m", "xyzzy": 1}, "it is one of path, n_ctx,"),
        ({"path": "m", "n_ctx": "many"}, "n_ctx=many: a whole number is needed"),
        ({"path": "m", "n_ctx": 1.5}, "n_ctx=1.5: a whole number is needed"),
        ({"path": "m", "threads": True}, "threads=True: a whole number is needed"),
        ({"path": "m", "kv_type": 8}, "kv_type=8: text is needed"),
        ({"path": "m", "share": None}, "share=None: true or false is needed"),
        ({"path": True}, "path=True: a file is needed"),
        ({"path": "m", "max_gen_toks": 0}, "max_gen_toks=0: at least 1"),
    ],
)
def test_bad_arguments(given: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match="--model_args: ") as error:
        Arguments.read(given)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_context(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(tiny_llama())
    aims_at = Arguments(file).context(ModelFile.open(file))
    assert Arguments(file, n_ctx=aims_at).context(ModelFile.open(file)) == aims_at
    assert Arguments(file, n_ctx=4 * aims_at, beyond_context=True).context(ModelFile.open(file)) == 4 * aims_at
    with pytest.raises(UsageError, match=f"context of {aims_at} tokens.*beyond_context=true"):
        Arguments(file, n_ctx=aims_at + 1).context(ModelFile.open(file))
    with pytest.raises(UsageError, match="at least 2 tokens"):
        Arguments(file, n_ctx=1).context(ModelFile.open(file))
    file.write_bytes(b"hello, I am not a model")
    with pytest.raises(GgufError, match=r"m\.gguf"):
        Arguments(file).context(ModelFile.open(file))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Generation(256, ())),
        ({"until": "\n", "max_gen_toks": 5}, Generation(5, ("\n",))),
        ({"until": ["a", "", "b", "a"], "max_new_tokens": 6.0}, Generation(6, ("a", "b"))),
        ({"max_tokens": 7, "max_gen_toks": 8}, Generation(8, ())),
        ({"do_sample": False, "temperature": 1, "top_p": 0.5, "top_k": 3}, Generation(256, ())),
        ({"temperature": 0.0, "top_p": 0.95, "num_beams": 1, "repetition_penalty": 1.0}, Generation(256, ())),
    ],
)
def test_generation_options(given: dict[str, object], expected: Generation) -> None:
    assert Generation.read(given, 256) == expected


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"do_sample": True}, "do_sample=True: the task asks for sampled answers"),
        ({"temperature": 0.7}, "temperature=0.7: the task asks for sampled answers"),
        ({"do_sample": True, "temperature": 0.0}, "--gen_kwargs do_sample=false,temperature=0"),
        ({"num_beams": 10}, "num_beams=10: .*--gen_kwargs num_beams=1"),
        ({"repetition_penalty": 1.1}, "repetition_penalty=1.1"),
        ({"stop": ["x"]}, "did you mean until?"),
        ({"max_length": 9}, "did you mean max_gen_toks?"),
        ({"max_gen_tokens": 9}, "did you mean max_gen_toks"),
        ({"max_gen_toks": 0}, "a whole number from 1"),
        ({"max_gen_toks": 2.5}, "a whole number from 1"),
        ({"until": [1]}, "a string or a list of strings"),
    ],
)
def test_what_greedy_decoding_is_not(given: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("?", r"\?")):
        Generation.read(given, 256)


def test_answers_are_cut_at_the_first_stop() -> None:
    how = Generation(9, (".", "so"))
    assert how.cut("drums . so give") == "drums "
    assert how.cut("so . x") == ""
    assert how.cut("give") == "give"


def test_pairs_keep_their_end() -> None:
    cuts = Cuts(8)
    assert fit_pair(range(5), (8, 9), cuts) == ((0, 1, 2, 3, 4), (8, 9))
    assert fit_pair(range(7), (8, 9), cuts) == (tuple(range(7)), (8, 9))  # the last token is never read: 8 are
    assert cuts._new == 0
    assert fit_pair(range(8), (8, 9), cuts) == (tuple(range(1, 8)), (8, 9))
    assert fit_pair(range(8), range(8), cuts) == ((7,), tuple(range(8)))
    assert cuts._new == 2
    with pytest.raises(UsageError, match="9 tokens does not fit n_ctx=8"):
        fit_pair((1,), range(9), cuts)


def test_cuts_are_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    cuts = Cuts(8)
    with caplog.at_level(logging.WARNING):
        assert fit_prompt(range(5), 3, cuts) == tuple(range(5))
        cuts.report("generate_until", 1)
        assert not caplog.records
        assert fit_prompt(range(10), 3, cuts) == tuple(range(5, 10))
        assert fit_prompt(range(9), 7, cuts) == (8,)
        cuts.report("generate_until", 3)
        cuts.report("generate_until", 3)
    assert [r.getMessage() for r in caplog.records] == [
        "generate_until: 2 of 3 prompts were cut from the left to n_ctx=8 (the longest needs 16 tokens): "
        "what stood at their beginning was not read"
    ]
    assert cuts.total == {"generate_until": 2}
    with pytest.raises(UsageError, match=r"up to 8 tokens leaves no tokens.*max_gen_toks=N.*n_ctx=N"):
        fit_prompt((1,), 8, cuts)


class Letters:
    """Every letter is a token; `<s>` is token 1 and leaves no text."""

    def __init__(self, bos: bool, space: str = "") -> None:
        self.begins_with_bos, self.space = bos, space

    def tokens(self, text: str, *, special: bool = False) -> list[int]:
        head, mark, rest = text.partition("<s>") if special else (text, "", "")
        return [*([ord(c) for c in self.space + head] if head else []), *([1] if mark else []), *map(ord, rest)]

    def prompt(self, text: str) -> list[int]:
        return [1] * self.begins_with_bos + self.tokens(text, special=True)

    def text(self, ids) -> str:
        return "".join(chr(i) for i in ids if i > 1)


def header(tmp_path: Path, *entries: bytes):
    file = tmp_path / "h.gguf"
    file.write_bytes(build([entry("general.architecture", STR, "llama"), *entries], []))
    return read_header(file)


def test_one_bos_at_most(tmp_path: Path) -> None:
    tokens = LmTokens(Letters(bos=True), header(tmp_path), add_bos=None, prefix=None)
    assert tokens.encode("ab") == [1, 97, 98]
    assert tokens.encode("<s>ab") == [1, 97, 98]
    assert tokens.encode("ab", add_bos=False) == [97, 98]
    assert tokens.encode("") == [1]
    assert tokens.prefix == tokens.bos == 1
    assert tokens.silent("<s>") == 1
    assert tokens.silent("a") is None


def test_what_stands_for_an_empty_context(tmp_path: Path) -> None:
    eos, bos = (entry(f"tokenizer.ggml.{name}_token_id", U32, i) for name, i in (("eos", 2), ("bos", 3)))
    plain = Letters(bos=False)
    assert LmTokens(plain, header(tmp_path, eos), add_bos=None, prefix=None).prefix == 2
    assert LmTokens(plain, header(tmp_path, eos, bos), add_bos=None, prefix=None).prefix == 3
    assert LmTokens(plain, header(tmp_path, eos, bos), add_bos=None, prefix=0).prefix == 0
    assert LmTokens(plain, header(tmp_path, bos), add_bos=True, prefix=None).encode("a") == [3, 97]
    with pytest.raises(UsageError, match="neither BOS nor EOS; --model_args prefix_token_id=N"):
        LmTokens(plain, header(tmp_path), add_bos=None, prefix=None).prefix  # noqa: B018
    with pytest.raises(UsageError, match=r"h\.gguf names no BOS"):
        LmTokens(plain, header(tmp_path), add_bos=True, prefix=None)


def test_the_space_before_a_text_goes_both_ways(tmp_path: Path) -> None:
    spaced = LmTokens(Letters(bos=True, space=" "), header(tmp_path), add_bos=None, prefix=None)
    assert spaced.decode(spaced.encode("ab")) == "ab"
    assert spaced.clean("  x") == " x"
    plain = LmTokens(Letters(bos=True), header(tmp_path), add_bos=None, prefix=None)
    assert plain.clean(" x") == " x"


ROLES = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
ANSWER = "{% if add_generation_prompt %}<assistant>{% endif %}"
KEY = "tokenizer.chat_template"
TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]


def test_conversations(tmp_path: Path) -> None:
    words = [entry("tokenizer.ggml.tokens", ARR, ["<s>", "</s>"], STR), entry("tokenizer.ggml.bos_token_id", U32, 0)]
    one = Template(header(tmp_path, entry(KEY, STR, ROLES + ANSWER), *words), None, None)
    assert one.write(TALK, True) == "<s><system>Be brief.</><user>Who?</><assistant>"
    begun = [*TALK, {"role": "assistant", "content": "It was "}]
    assert one.write(begun, False) == "<s><system>Be brief.</><user>Who?</><assistant>It was "
    assert one.source(True) == one.current() == ROLES + ANSWER


def test_a_template_without_a_system_role(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + ROLES
    with caplog.at_level(logging.WARNING):
        assert Template(header(tmp_path, entry(KEY, STR, strict)), None, None).write(TALK, True) == "<user>Who?</>"
    assert "takes no system message" in caplog.text


def test_which_template(tmp_path: Path) -> None:
    named = Template(header(tmp_path, entry(KEY, STR, "plain"), entry(f"{KEY}.tool_use", STR, "tools")), None, None)
    assert named.write(TALK, True) == "plain"
    assert named.source("tool_use") == named.write(TALK, True) == "tools"
    with pytest.raises(UsageError, match="no chat template 'tool-use': did you mean tool_use"):
        named.source("tool-use")
    with pytest.raises(UsageError, match="has no chat template; omit --apply_chat_template"):
        Template(header(tmp_path), None, None).source(True)
    file = tmp_path / "t.jinja"
    file.write_text("{{ enable_thinking }}", encoding="utf-8")
    assert Template(header(tmp_path), file, False).write(TALK, True) == "False"
    with pytest.raises(InputError, match=r"gone\.jinja: cannot be read"):
        Template(header(tmp_path), tmp_path / "gone.jinja", None).source(True)
    with pytest.raises(InputError, match=r"not a jinja2 template.*omit --apply_chat_template"):
        Template(header(tmp_path, entry(KEY, STR, "{% if %}")), None, None).write(TALK[1:], True)
