"""The command line. Each command is a module of its own, imported when it runs: `ganzoo --help` needs no torch.

Exit codes: 0 for success, 1 for a failure, 2 for the caller's mistake; never a traceback, unless `GANZOO_TRACEBACK=1`.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from ganzoo.errors import GanzooError
from ganzoo.version import __version__

# Command -> what `ganzoo --help` says of it; the code is in the module of the same name.
COMMANDS = {
    "train": "Train a recipe; resume a run.",
    "sample": "Draw samples from a model into files.",
    "vocode": "Copy a recording through a vocoder.",
    "evaluate": "Measure a model against real data.",
    "list": "List models, families and recipes.",
    "info": "Show what is known of a model, family or recipe.",
    "verify": "Check a checkpoint: files, weights, outputs, card.",
    "push": "Upload a checkpoint folder to the Hub.",
    "pull": "Download a checkpoint from the Hub.",
    "new": "Start a new architecture: family file, recipe, card stub.",
}


class LazyGroup(click.Group):
    """Imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]  # not list(COMMANDS): once the command is used, `list` is its module here

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"ganzoo.cli.{name}").command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS:
            from ganzoo.errors import did_you_mean

            raise click.UsageError(
                f"unknown command {args[0]!r}.{did_you_mean(args[0], COMMANDS)} Commands: {', '.join(COMMANDS)}", ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, message="ganzoo %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """A zoo of generative adversarial networks for images, audio and text.

    \b
    ganzoo sample dcgan-mnist --num 16 --seed 0        pictures from a pretrained model
    ganzoo train dcgan-digits training.steps=500       train a recipe, two values changed
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `ganzoo` command."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    try:
        result = cli.main(args=arguments, prog_name="ganzoo", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except click.ClickException as error:
        hint = f" (see '{error.ctx.command_path} --help')" if getattr(error, "ctx", None) else ""
        return _fail(f"{error.format_message()}{hint}", error.exit_code)
    except SystemExit:
        # click's answer when the reader of our output has gone (`ganzoo list | head`), which is no error.
        return 0
    except Exception as error:
        if os.environ.get("GANZOO_TRACEBACK"):
            raise
        if isinstance(error, GanzooError):
            return _fail(str(error), error.exit_code)
        first = (str(error).splitlines() or [""])[0]
        return _fail(f"unexpected {type(error).__name__}: {first} (GANZOO_TRACEBACK=1 shows where)", 1)


def _fail(message: str, code: int) -> int:
    click.echo(f"ganzoo: {message}", err=True)
    return code
