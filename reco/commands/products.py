"""`reco products`: the catalogue, changed while everything runs."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from producer.new_products import BadProducts, FeatureMaker, read_new_products
from reco import options, product_changes
from reco.brokers import open_cluster, outcomes_log
from reco.catalogue_feed import open_products
from reco.data import load_or_prepare
from reco.process import utc_now
from reco.product_changes import CannotChange
from reco.terminal import printable
from shared.events import OUTCOMES


@click.group()
def command() -> None:
    """Add products, retire them, list them; servers and trainers follow without a restart.

    Example: reco products list
    """


@command.command("add")
@click.argument("file", type=click.Path(path_type=Path))
@options.kafka
@options.data
@options.patience
def add_command(file: Path, kafka: str, data: Path, patience_s: float) -> None:
    """Add the products of a CSV file: ranked by every server at once, and learned from then on.

    FILE has the columns of products.csv: product_id, name, category, price, is_coffee (0 or 1).
    Columns of product_features.csv may stand beside them; features that are not given are computed
    as `reco prepare` computed those of the others. An id must never have been another product's.
    A product that an older version added, before `outcomes` was made anew, may be added again.

    Example: reco products add new.csv
    """
    dataset = load_or_prepare(data)
    try:
        products = read_new_products(file, FeatureMaker(data, dataset.products))
    except BadProducts as error:
        raise click.UsageError(str(error)) from error
    cluster = open_cluster(kafka, patience_s)
    consumer = cluster.consumer(OUTCOMES)
    try:
        product_changes.add(
            products,
            open_products(cluster, dataset).catalogue,
            cluster.producer(),
            consumer.watermarks,
            lambda: outcomes_log(cluster),
            utc_now,
        )
    except CannotChange as error:
        raise click.UsageError(str(error)) from error
    finally:
        consumer.close()
    for new in products:
        click.echo(f"added {new.product.product_id} {printable(new.product.name)}")


@command.command("retire")
@click.argument("product_ids", metavar="ID...", type=int, nargs=-1, required=True)
@options.kafka
@options.data
@options.patience
def retire_command(product_ids: tuple[int, ...], kafka: str, data: Path, patience_s: float) -> None:
    """Rank these products no longer. Their history remains, and late outcomes still count.

    Example: reco products retire 192 194
    """
    dataset = load_or_prepare(data)
    cluster = open_cluster(kafka, patience_s)
    catalogue = open_products(cluster, dataset).catalogue
    try:
        product_changes.retire(product_ids, catalogue, cluster.producer(), utc_now)
    except CannotChange as error:
        raise click.UsageError(str(error)) from error
    for product_id in dict.fromkeys(product_ids):
        entry = catalogue.entry(product_id)
        name = printable(entry.product.name) if entry else ""
        click.echo(f"retired {product_id} {name}".rstrip())


@command.command("list")
@options.kafka
@options.data
@click.option("--changed", is_flag=True, help="Only those that were added or retired.")
@options.json_output("the products")
@options.patience
def list_command(
    kafka: str, data: Path, changed: bool, json_file: str | None, patience_s: float
) -> None:
    """List all products and their state: ranked, retired, or being added.

    The JSON is a list of product_id, name, category, price, is_coffee, state, added, from_offset.

    Example: reco products list --changed
    """
    dataset = load_or_prepare(data)
    prepared = set(dataset.arms)
    cluster = open_cluster(kafka, patience_s)
    log, catalogue = cluster.source(OUTCOMES), open_products(cluster, dataset).catalogue
    rows = []
    for product_id, entry in catalogue.entries.items():
        product = entry.product
        state = "retired" if entry.retired else "ranked"
        rows.append(
            {
                "product_id": product_id,
                "name": product.name,
                "category": product.category,
                "price": product.price,
                "is_coffee": product.is_coffee,
                "state": "being added" if entry.from_offset is None else state,
                "added": product_id not in prepared,
                "from_offset": entry.first_offset(log),
            }
        )
    if changed:
        rows = [row for row in rows if row["added"] or row["state"] != "ranked"]
    options.write_json(rows, json_file)
    if json_file != "-":
        table = Table("id", "name", "category", "price", "state", "")
        for row in rows:
            # As `Text`: brackets in a name are no markup.
            named = [Text(printable(str(row[name]))) for name in ("name", "category")]
            added = "added" if row["added"] else ""
            price = f"{row['price']:.2f}"
            table.add_row(str(row["product_id"]), *named, price, str(row["state"]), added)
        Console().print(table)
