"""Adding and retiring products while everything runs, on the ports."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from producer.new_products import NewProduct
from shared.catalogue import Product
from shared.events import PRODUCTS, ProductChange, encode, key_of
from shared.live_catalogue import Entry, LiveCatalogue
from shared.partitioner import partition_of
from shared.ports import EventProducer, Source, Watermarks

FLUSH_TIMEOUT_S: Final = 10.0


class CannotChange(Exception):
    """The catalogue does not allow this change; nothing was changed."""


def add(
    products: Sequence[NewProduct],
    catalogue: LiveCatalogue,
    producer: EventProducer,
    outcomes: Callable[[int], Watermarks],
    log: Callable[[], Source],
    utc_now: Callable[[], datetime],
    step: Callable[[str], None] = lambda name: None,
) -> None:
    """Announce products, note where their outcomes can begin, and have them ranked.

    Two records each. The first says only that the product is coming; the outcomes' end is read
    after it is acknowledged. So an outcome that lies before `from_offset` was judged, or will be,
    as an unknown product's, and one behind it by someone who knows at least that the product is
    coming, and waits. Trainer and replay agree at whatever time they look (`infra/adr/0015`).
    Broken off in between, the same command finishes it.

    The log is asked for in between, too: of one that is made later nobody has judged an outcome
    before the announcement.

    Raises:
        CannotChange: an id is taken.
        BrokerUnavailable: not acknowledged; try again.
    """
    before = {new.product.product_id: catalogue.entry(new.product.product_id) for new in products}
    for new in products:
        known = before[new.product.product_id]
        if known and known.from_offset is not None and not _is_lost(known, new, outcomes, log()):
            raise CannotChange(
                f"product {new.product.product_id} is there already: choose an id that no product "
                "has ever had"
            )
    coming = [Entry(new.product, new.features, retired=False, from_offset=None) for new in products]
    _send(coming, producer, utc_now)
    step("announced")
    source, ready = log(), []
    for entry in coming:
        known, first = before[entry.product.product_id], _end_of(entry.product, outcomes, source)
        if known and known.from_offset is not None:  # from there on some have counted them already
            first = min(first, known.from_offset)
        ready.append(entry._replace(from_offset=first, log=source))
    step("placed")
    _send(ready, producer, utc_now)


def _is_lost(
    known: Entry, new: NewProduct, outcomes: Callable[[int], Watermarks], log: Source
) -> bool:
    """Whether this very product was placed in a log that is gone, and its record names none.

    Then its offset is beyond the end, so nobody has counted an outcome of it: it can be placed
    again. One whose record names its log counts from the start of any other by itself.
    """
    if known.log or known.retired or known.product != new.product or known.from_offset is None:
        return False
    return known.from_offset > _end_of(known.product, outcomes, log)


def _end_of(product: Product, outcomes: Callable[[int], Watermarks], log: Source) -> int:
    return outcomes(partition_of(key_of(product.product_id), log.partitions)).end


def retire(
    product_ids: Sequence[int],
    catalogue: LiveCatalogue,
    producer: EventProducer,
    utc_now: Callable[[], datetime],
) -> None:
    """Have products ranked no longer. What was learned of them stays, late outcomes still count.

    Raises:
        CannotChange: an id is unknown or retired already, or nothing would be left to rank.
        BrokerUnavailable: not acknowledged; try again.
    """
    arms = set(catalogue.arms)
    for product_id in product_ids:
        if product_id not in arms:
            known = catalogue.entry(product_id)
            what = "is retired already" if known and known.retired else "is not there"
            raise CannotChange(f"product {product_id} {what}: `reco products list` shows them all")
    if not arms - set(product_ids):
        raise CannotChange("no product would be left to rank: add others first")
    entries = [catalogue.entry(product_id) for product_id in dict.fromkeys(product_ids)]
    _send([entry._replace(retired=True) for entry in entries if entry], producer, utc_now)


def change_of(entry: Entry, changed_at: datetime) -> ProductChange:
    """The record that makes this entry, in whoever folds it."""
    product = entry.product
    return ProductChange(
        product_id=product.product_id,
        name=product.name,
        category=product.category,
        price=product.price,
        is_coffee=product.is_coffee,
        features=entry.features,
        retired=entry.retired,
        from_offset=entry.from_offset,
        changed_at=changed_at,
        outcomes_log=entry.log,
    )


def _send(
    entries: Sequence[Entry], producer: EventProducer, utc_now: Callable[[], datetime]
) -> None:
    for entry in entries:
        change = encode(change_of(entry, utc_now()))
        producer.send(PRODUCTS, key_of(entry.product.product_id), change)
    producer.flush(FLUSH_TIMEOUT_S)
