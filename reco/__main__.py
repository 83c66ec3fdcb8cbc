"""The command `reco`: collects the subcommands and turns errors into one sentence each."""

import logging
import sys
from collections.abc import Sequence

import click

from reco.commands import (
    bench,
    dead_letters,
    demo,
    embedded,
    evaluate,
    experiment,
    inspect,
    prepare,
    produce,
    products,
    redis_users,
    replay,
    serve,
    simulate,
    snapshot,
    status,
    topics,
    train,
)
from reco.wiring import say
from shared.ports import BrokerRefuses, BrokerUnavailable, StoreRefuses, StoreUnavailable


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="livereco")
def cli() -> None:
    """LiveReco: a real-time recommender that learns from the click that just happened.

    First contact, with nothing to install or start: reco demo
    """


for _name, _module in {
    "demo": demo,
    "prepare": prepare,
    "produce": produce,
    "serve": serve,
    "train": train,
    "products": products,
    "replay": replay,
    "snapshot": snapshot,
    "simulate": simulate,
    "evaluate": evaluate,
    "experiment": experiment,
    "inspect": inspect,
    "topics": topics,
    "status": status,
    "dead-letters": dead_letters,
    "redis-users": redis_users,
    "embedded": embedded,
    "bench": bench,
}.items():
    cli.add_command(_module.command, _name)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code (0 done, 1 failed, 2 wrong usage)."""
    try:
        code = cli.main(arguments, "reco", standalone_mode=False, auto_envvar_prefix="RECO")
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return 0
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        name = context.command_path if context else "reco"
        say(f"{name}: {error.format_message()}", logging.ERROR)
        return error.exit_code
    except (BrokerUnavailable, StoreUnavailable) as error:
        say(f"reco: {error}", logging.ERROR)
        return 2 if isinstance(error, BrokerRefuses | StoreRefuses) else 1
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`reco … | head`): not an error of ours.
        sys.stderr.close()
        return 0
    return code if isinstance(code, int) else 0


def main() -> None:
    """Entry point of the `reco` script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
