"""The command `reco`: collects the subcommands and turns errors into one sentence each."""

import io
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import click

from reco.logs import say
from shared.catalogue import DataError
from shared.ports import (
    BrokerRefuses,
    BrokerUnavailable,
    CorruptState,
    StoreRefuses,
    StoreUnavailable,
)

COMMANDS: Final = (
    "demo",
    "prepare",
    "produce",
    "serve",
    "train",
    "replay",
    "snapshot",
    "inspect",
    "status",
    "dead-letters",
    "products",
    "topics",
    "simulate",
    "evaluate",
    "experiment",
    "bench",
    "redis-users",
    "embedded",
)

_PREFIX: Final = "RECO"


class Commands(click.Group):
    """Imports a subcommand when it is asked for: a trainer that is started again need not wait for
    what only the plots use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of the README."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The one of this name; None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"reco.commands.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        command.name = cmd_name
        _name_variables(command, f"{_PREFIX}_{_as_variable(cmd_name)}")
        return command


def _name_variables(command: click.Command, prefix: str) -> None:
    """Call an option's variable like the option, which people see.

    click calls it like the parameter that the option fills: `most`, where people type `--max`.
    """
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            _name_variables(inner, f"{prefix}_{_as_variable(name)}")
    for option in command.params:
        if not isinstance(option, click.Option) or not option.allow_from_autoenv:
            continue
        name = _as_variable(next(opt for opt in option.opts if opt.startswith("--")))
        if name != str(option.name).upper():
            first = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
            option.envvar = [*first, f"{prefix}_{name}"]
            option.allow_from_autoenv = False


def _as_variable(name: str) -> str:
    return name.removeprefix("--").replace("-", "_").upper()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="livereco", allow_from_autoenv=False)
def cli() -> None:
    """LiveReco: a real-time recommender that learns from the click that just happened.

    First contact, with nothing to install or start: reco demo
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code (0 done, 1 failed, 2 wrong usage)."""
    try:
        code = cli.main(arguments, "reco", standalone_mode=False, auto_envvar_prefix=_PREFIX)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return 0
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        name = context.command_path if context else "reco"
        say(f"{name}: {error.format_message()}", logging.ERROR)
        return error.exit_code
    except (BrokerUnavailable, StoreUnavailable, CorruptState, DataError) as error:
        say(f"reco: {error}", logging.ERROR)
        return 2 if isinstance(error, BrokerRefuses | StoreRefuses | DataError) else 1
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`reco … | head`): not an error of ours.
        sys.stderr.close()
        return 0
    return code if isinstance(code, int) else 0


def main() -> None:
    """Entry point of the `reco` script."""
    for stream in (sys.stdout, sys.stderr):
        # A locale without UTF-8 has no ✓, and what was typed may be no text: no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run())


if __name__ == "__main__":
    main()
