"""What ``scripts/grid`` runs, in the project's environment: commands of ours, each one that a person could type."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from demo_model.text import sample_text
from demo_steps import MODEL, ROOT, ggufrope, say

#: By the name that the file gets; each has to reach 4 times the trained 512 tokens.
METHODS = {
    "none": (),
    "ntk": ("--method", "ntk", "--factor", "4"),
    "yarn": ("--method", "yarn", "--factor", "4"),
    "dynamic-ntk": ("--method", "dynamic-ntk", "--factor", "4"),
    "ms-poe": ("--method", "ms-poe", "--calibrate", MODEL / "calibration.txt", "--from-wavelength", "0"),
}
QUANTIZATIONS = ("q8_0", "q4_k_m")
LENGTHS = (512, 1024, 2048)
TEXTS = 20  # of each length, each with a question at nine depths
READ = 10  # of the longest, for losses


def convert(folder: Path) -> dict[str, list[Path]]:
    """The files by quantization; those that are there are kept, since the results name them by their bytes."""
    files: dict[str, list[Path]] = {kind: [] for kind in ("f16", *QUANTIZATIONS)}
    for name, options in METHODS.items():
        first = folder / f"{name}-f16.gguf"
        if not first.exists():
            source = (folder / "none-f16.gguf", *options) if options else (MODEL, "--outtype", "f16")
            ggufrope("convert", *source, "-o", first, quiet=True)
        files["f16"].append(first)
        for kind in QUANTIZATIONS:
            small = folder / f"{name}-{kind}.gguf"
            if not small.exists():
                ggufrope("quantize", first, small, kind.upper(), quiet=True)
            files[kind].append(small)
    return files


def main(folder: Path) -> int:
    start = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results"
    text = folder / "text.txt"
    text.write_text(sample_text("loss", READ, LENGTHS[-1] - 1), encoding="utf-8")
    say("Files")
    files = convert(folder)
    every = [file for group in files.values() for file in group]
    say("Facts asked for, by where they stand in the text")
    lengths = ",".join(map(str, LENGTHS))
    ggufrope("eval", *every, "--task", "niah", "--wording", MODEL / "wording.json", "--lengths", lengths,
             "--limit", str(TEXTS), "--beyond-context", "-o", results)  # fmt: skip
    say("Loss by position")
    longest = ("--lengths", str(LENGTHS[-1]), "--text", text, "--limit", str(READ), "--beyond-context", "-o", results)
    ggufrope("eval", *every, "--task", "ppl", *longest)
    say("What quantization changes, by position")
    for name in METHODS:
        quantized = [folder / f"{name}-{kind}.gguf" for kind in QUANTIZATIONS]
        ggufrope("eval", *quantized, "--task", "kl", "--baseline", folder / f"{name}-f16.gguf", *longest)
    say("Report")
    ggufrope("report", results, "-o", folder / "results.html", "-o", folder / "results.md", "--overwrite")
    print(f"\nDone in {time.monotonic() - start:.0f} s; see {folder / 'results.html'}.".replace(f"{ROOT}/", ""))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
