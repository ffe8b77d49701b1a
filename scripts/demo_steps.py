"""What ``scripts/demo`` shows, in the project's environment: every step is a command that a person could type."""

from __future__ import annotations

import random
import shlex
import subprocess
import sys
import time
from pathlib import Path

from demo_model import retrieval
from demo_model.text import make_document

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "demo"
OUT = ROOT / "demo-output"
GGUFROPE = Path(sys.executable).with_name("ggufrope")


def say(title: str) -> None:
    print(f"\n== {title}", flush=True)


def ggufrope(*args: str | Path | int, quiet: bool = False) -> str:
    """Run a command of ours, showing it first; its exit code ends the demo when it is not 0."""
    words = ["ggufrope", *map(str, args)]
    print(f"$ {shlex.join(w.replace(f'{ROOT}/', '') for w in words)}", flush=True)
    done = subprocess.run(
        [GGUFROPE, *words[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if quiet else None,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout, (done.stderr or "")[-2000:], sep="\n")
        raise SystemExit(done.returncode)
    if not quiet:
        print(done.stdout.replace(f"{ROOT}/", ""), end="", flush=True)
    return done.stdout


def generate(file: Path, prompt: str, n: int) -> str:
    options = ("-p", prompt, "-n", str(n), "--temp", "0", "--no-display-prompt", "--simple-io", "-t", "2")
    words = ggufrope_quietly("run", file, "--", *options)
    return " ".join(words.split())


def ggufrope_quietly(*args: str | Path) -> str:
    done = subprocess.run(
        [GGUFROPE, *map(str, args)], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        print(done.stderr[-2000:])
        raise SystemExit(done.returncode)
    return done.stdout


def own_model() -> None:
    """The whole story on the model of this repository."""
    plain, poe = OUT / "plain.gguf", OUT / "ms-poe.gguf"
    text = MODEL / "calibration.txt"
    say("1. Convert: the Hugging Face directory as it is, and with Ms-PoE, heads ordered by what they do on a text")
    ggufrope("convert", MODEL, "-o", plain, "--outtype", "f16", "--overwrite")
    ggufrope("convert", plain, "-o", poe, "--method", "ms-poe", "--calibrate", text, "--overwrite")
    say("2. Inspect what the file now says")
    ggufrope("inspect", poe)
    say("3. Generate on the patched llama.cpp")
    length = retrieval.TRAINED - 16  # room for the answer
    prompt, answer = make_document(random.Random(3), n_tokens=length, depth=0.5)
    fact = f"{prompt.split(' so ')[-1]} {answer} ."
    print(f"A text of {length} tokens says in its middle: '{fact}'. It ends: '... {prompt[-60:]}'")
    for name, file in (("plain", plain), ("ms-poe", poe)):
        print(f"  {name:<7} continues: {generate(file, prompt, 8)}")
    say("4. Validate: the patched runtime against PyTorch, at every position")
    ggufrope("validate", poe, "--reference", MODEL, "--length", retrieval.TRAINED)
    say("5. Does it help? Facts asked for, by where they stand in the text")
    print(retrieval.table(plain, OUT))
    summary([plain, poe])


def any_model(file: Path) -> None:
    """The same steps on somebody's GGUF, without what needs a reference or a trained skill."""
    poe = OUT / f"{file.stem}.ms-poe.gguf"
    say("1. Convert with Ms-PoE")
    ggufrope("convert", file, "-o", poe, "--method", "ms-poe", "--overwrite")
    say("2. Inspect what the file now says")
    ggufrope("inspect", poe)
    say("3. Generate on the patched llama.cpp")
    for name, path in (("source", file), ("ms-poe", poe)):
        print(f"  {name:<7} continues 'Once upon a time': {generate(path, 'Once upon a time', 32)}")
    print("\nvalidate needs the model's Hugging Face directory: ggufrope validate", poe.name, "--reference DIR")
    summary([file, poe])


def summary(files: list[Path]) -> None:
    say("Summary")
    from ggufrope.inspection.summary import Inspection
    from ggufrope.modelfile.model_file import ModelFile

    print(f"{'file':<28} {'size':>9}  {'method':<8} {'context':>7}  stock llama.cpp")
    for file in files:
        found = Inspection(ModelFile.open(file))
        size = f"{file.stat().st_size / 1e6:.1f} MB"
        stock = found.verdict.honoured_by()["stock"]
        print(f"{file.name:<28} {size:>9}  {found.decoded.method:<8} {found.decoded.context:>7}  {stock}")


def main(argv: list[str]) -> int:
    start = time.monotonic()
    OUT.mkdir(exist_ok=True)
    if argv:
        any_model(Path(argv[0]))
    else:
        own_model()
    print(f"\nDone in {time.monotonic() - start:.0f} s; the files are in {OUT.name}/.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
