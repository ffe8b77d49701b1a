"""``ggufrope lm-eval OPTIONS``: EleutherAI's lm-evaluation-harness on the patched llama.cpp."""

from __future__ import annotations

import click


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def command(options: tuple[str, ...]) -> None:
    """Run lm-evaluation-harness with `ggufrope` as one of its models.

    All options are lm_eval's own (docs/lm-eval.md), and go after --, as in: ggufrope lm-eval -- --model ggufrope
    --model_args path=model.gguf,n_ctx=4096 --tasks hellaswag
    """
    from ggufrope.lm_eval import run

    if not options:
        raise click.UsageError("nothing to do; `ggufrope lm-eval -- --help` shows lm_eval's options")
    run(options)
