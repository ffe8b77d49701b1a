"""lm-evaluation-harness on the patched runtime, against its own class for transformers' models on the same weights.

The oracle is lm_eval's ``hf`` with models/demo in float32; the subject is that checkpoint as an F32 GGUF, with an F32
cache and without flash attention. The two share lm_eval's tasks and nothing below them.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import gguf_builder as gb
import pytest

from ggufrope.cli import main

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "models" / "demo"
CLOSE = 1e-3
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
EXACT = {"kv_type": "f32", "flash_attn": False}
FACTS = " ".join(
    f"give {who} {what} ." for who in ("emma", "jack") for what in ("drums", "pears", "plums", "maps", "keys")
)

needs = [name for name in ("lm_eval", "accelerate") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(needs), reason=f"pip install 'ggufrope[eval]' accelerate: {' and '.join(needs)} missing"),
    pytest.mark.filterwarnings("ignore"),  # lm_eval, datasets and transformers have warnings of their own
]

QUESTIONS = [
    {
        "text": "give emma drums . give jack pears . so give emma",
        "choices": ["drums .", "pears .", "maps ."],
        "right": 0,
    },
    {
        "text": "give emma drums . give jack pears . so give jack",
        "choices": ["drums .", "pears .", "maps ."],
        "right": 1,
    },
    {"text": f"{FACTS} so give emma", "choices": ["keys", "keys . so give jack", "Überraschung"], "right": 0},
    {"text": "the thin fox runs to the river . ", "choices": ["so", "in the night", "zzz"], "right": 1},
]
TASKS = {
    "local_choice": """
output_type: multiple_choice
doc_to_text: "{{text}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{right}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
""",
    "local_perplexity": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}} {{choices[right]}}"
metric_list: [{metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}]
""",
    "local_answer": """
output_type: generate_until
doc_to_text: "{{text}}"
doc_to_target: "{{choices[right]}}"
generation_kwargs: {until: ["."], max_gen_toks: 7, do_sample: false, temperature: 1}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
}


@pytest.fixture(scope="module", autouse=True)
def _offline(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in OFFLINE.items():
            patch.setenv(name, value)
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Local tasks that need no download."""
    path = tmp_path_factory.mktemp("tasks")
    (path / "q.jsonl").write_text("".join(json.dumps(q) + "\n" for q in QUESTIONS), encoding="utf-8")
    data = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: '{path}/q.jsonl'}}}}\ntest_split: test\n"
    for name, text in TASKS.items():
        (path / f"{name}.yaml").write_text(f"task: {name}\n{data}{text}", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def gguf(runtime_dir: Path, tmp_path_factory) -> Path:
    """models/demo as an F32 GGUF."""
    out = tmp_path_factory.mktemp("demo") / "demo.gguf"
    command = ["-m", "ggufrope", "convert", str(DEMO), "-o", str(out), "--outtype", "f32"]
    subprocess.run([sys.executable, *command], check=True, cwd=ROOT, capture_output=True)
    return out


@pytest.fixture(scope="module")
def open_model(gguf: Path):
    """Opens the subject; a file is opened once for the same arguments."""
    from ggufrope.lm_eval.adapter import GgufropeLM

    opened = {}

    def get(**arguments):
        key = json.dumps(arguments, sort_keys=True)
        if key not in opened:
            opened[key] = GgufropeLM(gguf, **({"threads": 1} | EXACT | arguments))
        return opened[key]

    yield get
    for model in opened.values():
        model.engine.close()


@pytest.fixture(scope="module")
def hf():
    """The oracle, with a context of 64 tokens."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(DEMO), dtype="float32", device="cpu", max_length=64)


def asked(kind, *arguments):
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, a if isinstance(a, tuple) else (a,), i) for i, a in enumerate(arguments)]


PAIRS = [
    ("give emma drums . so give emma", " drums ."),
    ("give emma drums . so give emma", " pears ."),
    ("give emma drums . so give emma ", "drums ."),
    ("", "give emma drums ."),
    ("", "<s>give"),
    ("<s>give emma drums . so give", " emma"),
    ("\n\n", "Hello"),
    ("zürich ", "x"),
    (f"{FACTS} {FACTS} so give emma", " keys"),
    (FACTS, " the fox" * 20),
]


def test_likelihoods_with_empty_contexts_and_cuts(open_model, hf, caplog):
    ours = open_model(n_ctx=64)
    with caplog.at_level(logging.WARNING, logger="ggufrope"):
        found = ours.loglikelihood(asked("loglikelihood", *PAIRS), disable_tqdm=True)
    expected = hf.loglikelihood(asked("loglikelihood", *PAIRS), disable_tqdm=True)
    assert [flag for _, flag in found] == [flag for _, flag in expected]
    assert {True, False} == {flag for _, flag in found}
    assert [p for p, _ in found] == pytest.approx([p for p, _ in expected], abs=CLOSE)
    assert "loglikelihood: 2 of 10 prompts were cut from the left to n_ctx=64" in caplog.text
    assert ours.get_model_info()["ggufrope"]["prompts_cut"]["loglikelihood"] == 2


def test_rolling_windows(open_model, hf):
    texts = asked(
        "loglikelihood_rolling", "give emma drums .", f"{FACTS} {FACTS} {FACTS}", "", "Über", f"{FACTS} the end"
    )
    found = open_model(n_ctx=64).loglikelihood_rolling(texts, disable_tqdm=True)
    assert found == pytest.approx(hf.loglikelihood_rolling(texts, disable_tqdm=True), abs=CLOSE)


def test_answers(open_model, hf, caplog):
    prompts = [
        "give emma drums . so give emma",
        f"{FACTS} {FACTS} so give emma",
        "hello",
        "<s>give jack pears . so give jack",
    ]
    ends = [
        {"until": ["."], "max_gen_toks": 8},
        {"until": [], "max_gen_toks": 12},
        {"until": " ", "max_new_tokens": 5},  # the space before the first word ends nothing
        {"until": ["</s>", "pe"], "max_gen_toks": 5, "do_sample": False, "temperature": 1},
    ]
    requests = asked("generate_until", *((prompt, how) for prompt in prompts for how in ends))
    with caplog.at_level(logging.WARNING, logger="ggufrope"):
        found = open_model(n_ctx=64).generate_until(requests, disable_tqdm=True)
    assert found == [hf.generate_until([request], disable_tqdm=True)[0] for request in requests]
    assert len(set(found)) > 8
    assert "generate_until: 4 of 16 prompts were cut" in caplog.text


def test_one_and_two_threads_agree(open_model):
    one, two = (open_model(n_ctx=512, threads=n) for n in (1, 2))
    pairs = [m.loglikelihood(asked("loglikelihood", *PAIRS), disable_tqdm=True) for m in (one, two)]
    assert [f for _, f in pairs[0]] == [f for _, f in pairs[1]]
    assert [p for p, _ in pairs[0]] == pytest.approx([p for p, _ in pairs[1]], abs=CLOSE)
    requests = asked("generate_until", *((context, {"until": [], "max_gen_toks": 9}) for context, _ in PAIRS))
    assert one.generate_until(requests, disable_tqdm=True) == two.generate_until(requests, disable_tqdm=True)


def test_long_answers_and_sampling_are_refused(open_model):
    from ggufrope.errors import UsageError

    ours = open_model(n_ctx=64)
    with pytest.raises(UsageError, match="leaves no tokens for a prompt"):
        ours.generate_until(asked("generate_until", ("a", {"max_gen_toks": 64})), disable_tqdm=True)
    with pytest.raises(UsageError, match="sampled answers"):
        ours.generate_until(asked("generate_until", ("a", {"temperature": 0.5})), disable_tqdm=True)
    with pytest.raises(UsageError, match="65 tokens does not fit"):
        ours.loglikelihood(asked("loglikelihood", ("a", " fox" * 65)), disable_tqdm=True)


TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '[' + m['role'] + '] ' + m['content'] + ' [end]\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
)


def test_conversations_as_transformers_writes_them(open_model, hf, tmp_path, monkeypatch):
    (tmp_path / "t.jinja").write_text(TEMPLATE, encoding="utf-8")
    ours = open_model(n_ctx=64, chat_template=str(tmp_path / "t.jinja"))
    monkeypatch.setattr(hf.tokenizer, "chat_template", TEMPLATE)
    talk = [
        {"role": r, "content": c} for r, c in (("system", "Be brief."), ("user", " Who? "), ("assistant", "It was"))
    ]
    for messages, open_end in ((talk[:2], True), (talk, False), (talk[1:2], True)):
        text = ours.apply_chat_template(messages, add_generation_prompt=open_end)
        assert text == hf.apply_chat_template(messages, add_generation_prompt=open_end)
        assert ours.tok_encode(text) == hf.tok_encode(text)  # one BOS: the template's
    assert ours.chat_template(True) == hf.chat_template(True) == TEMPLATE
    assert ours.tokenizer_name != open_model(n_ctx=64, chat_template=str(ROOT / "README.md")).tokenizer_name


def samples(out: Path) -> dict[str, dict[int, dict]]:
    """The records of each task by document."""
    found = {}
    for path in out.rglob("samples_*.jsonl"):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found[path.name.removeprefix("samples_").rpartition("_")[0]] = {line["doc_id"]: line for line in lines}
    return found


def run(program, model, model_args, folder, out):
    command = [*program, "--model", model, "--model_args", model_args, "--tasks", ",".join(TASKS), "--include_path"]
    done = subprocess.run(
        [sys.executable, "-m", *command, str(folder), "--output_path", str(out), "--log_samples"],
        capture_output=True, text=True, check=False, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Exception ignored" not in done.stderr
    return samples(out), json.loads(next(out.rglob("results_*.json")).read_text(encoding="utf-8"))


def test_the_command_line(gguf, folder, tmp_path):
    args = f"path={gguf},n_ctx=256,kv_type=f32,flash_attn=false,threads=1"
    ours, result = run(["ggufrope", "lm-eval"], "ggufrope", args, folder, tmp_path / "ours")
    theirs, expected = run(
        ["lm_eval"], "hf", f"pretrained={DEMO},dtype=float32,max_length=256", folder, tmp_path / "hf"
    )
    assert sorted(ours) == sorted(theirs) == sorted(TASKS)
    for task in TASKS:
        for number, mine in ours[task].items():
            assert mine["arguments"] == theirs[task][number]["arguments"]
            for (got,), (wanted,) in zip(mine["resps"], theirs[task][number]["resps"], strict=True):
                assert_same(got, wanted)
        for metric, value in expected["results"][task].items():
            if isinstance(value, float):
                assert result["results"][task][metric] == pytest.approx(value, rel=CLOSE)
    assert result["results"]["local_choice"]["acc,none"] >= 0.5
    info = result["config"]["ggufrope"]
    assert (info["file"]["name"], info["n_ctx"], info["prompts_cut"]) == ("demo.gguf", 256, {})
    assert info["tokens"]["evaluated"] < info["tokens"]["asked"]  # what choices share was read once


def assert_same(got, wanted):
    """A likelihood with its flag, a likelihood, or a text, as lm_eval writes them."""
    if isinstance(wanted, list):
        assert got[1] == wanted[1]
        got, wanted = got[0], wanted[0]
    try:
        assert float(got) == pytest.approx(float(wanted), abs=CLOSE)
    except ValueError:
        assert got == wanted


@pytest.fixture
def _fresh_log():
    """lm_eval's log goes where standard error was when it was first used: in a test, somewhere closed."""
    logging.getLogger("lm_eval").handlers.clear()


@pytest.mark.usefixtures("_fresh_log", "runtime_dir")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("path=gone.gguf", "gone.gguf"),
        ("path=text.gguf", "text.gguf"),
        ("path=good.gguf,n_ctx=100000", "n_ctx=100000: good.gguf has a context of"),
        ("path=good.gguf,context=64", "did you mean"),
        ("path=good.gguf,kv_type=f61", "kv_type 'f61': unknown; one of f32, f16"),
        ("n_ctx=64", "no file; path=FILE"),
    ],
)
def test_bad_input_is_one_line(arguments, says, folder, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("text.gguf").write_bytes(b"hello, I am not a model")
    Path("good.gguf").write_bytes(gb.tiny_llama())
    asks = ["--tasks", "local_choice", "--include_path", str(folder)]
    assert main(["lm-eval", "--model", "ggufrope", "--model_args", arguments, *asks]) == 2
    errors = capfd.readouterr().err
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("ggufrope: ")]
    assert says in line


@pytest.mark.usefixtures("_fresh_log")
def test_an_unknown_task_is_one_line(capfd):
    assert main(["lm-eval", "--model", "ggufrope", "--model_args", "path=x", "--tasks", "local_chioce"]) == 2
    assert capfd.readouterr().err.splitlines()[-1].startswith("ggufrope: lm_eval: Tasks not found: local_chioce")


def test_newer_releases_find_the_class_by_its_entry_point():
    from lm_eval.api.model import LM
    from lm_eval.api.registry import Registry

    tomllib = pytest.importorskip("tomllib", reason="Python 3.11's")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    value = project["entry-points"]["lm_eval.models"]["ggufrope"]
    registry = Registry("model", base_cls=LM)
    registry.register("ggufrope", target=EntryPoint("ggufrope", value, "lm_eval.models"))
    assert registry.get("ggufrope").__name__ == "GgufropeLM"
