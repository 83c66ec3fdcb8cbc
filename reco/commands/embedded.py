"""`reco embedded`: the embedded broker and store as one process that others connect to."""

import click
import msgspec

from infra.embedded import BROKER, EmbeddedError, embedded, store_version
from reco.logs import say
from reco.process import stop_on_signals


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the addresses as one line of JSON.")
def command(as_json: bool) -> None:
    """Run a broker and a store with nothing to install, until interrupted.

    They are for showing and testing: the log is kept in memory (5 MiB a partition) and is gone
    with this process.

    Example: reco embedded
    """
    stop = stop_on_signals()
    try:
        with embedded() as addresses:
            store = store_version()
            if as_json:
                description = {**addresses._asdict(), "broker": BROKER, "store": store}
                click.echo(msgspec.json.encode(description))
            else:
                say(f"Broker: {BROKER}. Store: {store}. Both are gone when this ends (Ctrl-C).")
                click.echo(f"export RECO_KAFKA={addresses.kafka} RECO_REDIS={addresses.redis}")
            stop.wait()
    except EmbeddedError as error:
        raise click.ClickException(str(error)) from error
