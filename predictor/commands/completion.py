"""``predict-latency completion SHELL``: the shell's completion script."""

from __future__ import annotations

import click

from predictor.commands.options import debug_option
from predictor.commands.output import emit

_PROGRAM = "predict-latency"
_VARIABLE = "_PREDICT_LATENCY_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@debug_option
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a SHELL.

    \b
    bash, in ~/.bashrc:  eval "$(predict-latency completion bash)"
    zsh, in ~/.zshrc:    eval "$(predict-latency completion zsh)"
    fish, once:          predict-latency completion fish \\
                           > ~/.config/fish/completions/predict-latency.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    # Not kind.source(): for bash that starts a shell to ask its version.
    script = kind(ctx.find_root().command, {}, _PROGRAM, _VARIABLE)
    emit(script.source_template % script.source_vars())
