"""What the verbs say of themselves, to a person and to a shell: `souq help VERB`, `souq completion`, verbs of verbs."""

from __future__ import annotations

import re

import click
from click.shell_completion import get_completion_class

from souq.cli.console import done, out

SHELLS = {
    "bash": 'eval "$(souq completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(souq completion zsh)" in ~/.zshrc',
    "fish": "souq completion fish > ~/.config/fish/completions/souq.fish",
}


class VerbGroup(click.Group):
    """A verb of verbs, which lists each with its first sentence, whole."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Their names, and what each does."""
        verbs = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        rows = [(name, _first_sentence(verb.help or "")) for name, verb in verbs.items() if verb and not verb.hidden]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=[.?]) (?=[A-Z])", paragraph)[0]


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
