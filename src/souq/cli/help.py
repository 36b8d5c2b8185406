"""`souq help VERB` and `souq completion SHELL`: what the verbs say of themselves, to a person and to a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from souq.cli.console import done, out

SHELLS = {
    "bash": 'eval "$(souq completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(souq completion zsh)" in ~/.zshrc',
    "fish": "souq completion fish > ~/.config/fish/completions/souq.fish",
}


@click.command("help")
@click.argument("words", nargs=-1, metavar="[VERB]...")
@click.pass_context
def help_(ctx: click.Context, words: tuple[str, ...]) -> None:
    """What a verb does and which words it takes: the same as VERB --help."""
    root = ctx.find_root().command
    root.main([*words, "--help"], prog_name="souq", standalone_mode=False)


@click.command()
@click.argument("shell", type=click.Choice([*SHELLS]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Write the script by which a shell completes verbs and options."""
    complete = get_completion_class(shell)
    assert complete is not None
    out.print(complete(ctx.find_root().command, {}, "souq", "_SOUQ_COMPLETE").source())
    done(f"for every shell from now on: {SHELLS[shell]}")
