"""`reco prepare`: make the data that everything else starts from."""

from pathlib import Path

import click

from producer.prepare import prepare
from producer.text_components import BY, TextWiserMissing
from reco import options
from reco.logs import say
from shared.catalogue import DataError


@click.command()
@options.seed()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Folder to write to.",
)
@click.option(
    "--text-by",
    type=click.Choice(tuple(BY)),
    default="scikit-learn",
    show_default=True,
    help="Who computes the text components; textwiser needs the extra `text`.",
)
@options.json_output("the counts")
def command(seed: int, out: Path, text_by: str, json_file: str | None) -> None:
    """Write catalogue, users, features, history and encoder; same seed, same bytes.

    \b
    products.csv          200 products in 8 categories
    users.csv             1,000 users
    product_features.csv  text components, category, is_coffee, price
    user_features.csv     what the encoder makes of a user
    text_model.json       how a new product gets its text components
    history.csv           10,000 events: event_id, the context, product_id, response
    encoder.json          ranges and categories of the context

    Example: reco prepare --seed 1237 --out data
    """
    try:
        summary = prepare(out, seed, text_by)
    except (DataError, TextWiserMissing) as error:
        raise click.UsageError(str(error)) from error
    (say if json_file == "-" else click.echo)(
        f"{out}: {summary.products} products in {summary.categories} categories, "
        f"{summary.users:,} users, {summary.events:,} events with {summary.clicks:,} clicks "
        f"(average click rate {summary.click_rate:.2%}), encoder {summary.encoder_id}"
    )
    options.write_json(summary, json_file)
