"""Following the catalogue's changes: the topic `products`, read from its start."""

import logging
from typing import Final

from shared.events import UNDECODABLE, decode_product_change
from shared.live_catalogue import LiveCatalogue
from shared.ports import BrokerUnavailable, EventConsumer, NotYet, Source

_log = logging.getLogger(__name__)

_POLL_RECORDS: Final = 1_000
_POLL_S: Final = 0.2
_SILENT_POLLS: Final = 25


class ProductsFeed:
    """Folds the topic's one partition into a catalogue. Belongs to one thread.

    Args:
        consumer: of the topic `products`, in no group.
        catalogue: what it is folded into.
    """

    def __init__(self, consumer: EventConsumer, catalogue: LiveCatalogue) -> None:
        self.catalogue: Final = catalogue
        self._consumer = consumer
        self._next = 0
        consumer.assign({0: None})

    def follow(self) -> None:
        """Take in what has arrived; never waits.

        Raises:
            BrokerUnavailable: the topic can't be read just now.
        """
        self._take(0.0)

    def catch_up(self) -> None:
        """Take in everything up to the topic's end as it is now.

        Raises:
            BrokerUnavailable: the end is not reached.
        """
        end, silent = self._consumer.watermarks(0).end, 0
        while self._next < end:
            if self._take(_POLL_S):
                silent = 0
                continue
            # Compaction leaves gaps: the position tells that there is nothing more to come.
            self._next = max(self._next, self._consumer.position(0) or 0)
            silent += 1
            if silent > _SILENT_POLLS:
                raise BrokerUnavailable(f"the topic products ends at {end} but brings no records")

    def first_offset(self, product_id: int, log: Source | None) -> int | None:
        """The first offset of this outcomes log that may be this product's; None if not known.

        Raises:
            NotYet: the product is being added at this moment.
        """
        entry = self.catalogue.entry(product_id)
        if entry is None:
            return None
        first = entry.first_offset(log)
        if first is None:
            raise NotYet(
                f"product {product_id} is being added; if that was broken off, finish it with "
                "`reco products add FILE`"
            )
        return first

    def close(self) -> None:
        """Let go of the consumer."""
        self._consumer.close()

    def _take(self, wait_s: float) -> int:
        records = self._consumer.poll(_POLL_RECORDS, wait_s)
        for record in records:
            self._next = record.offset + 1
            if record.value is None:
                continue
            try:
                self.catalogue.take(decode_product_change(record.value))
            except UNDECODABLE as error:
                _log.warning("products/0@%d is no change of a product: %s", record.offset, error)
        return len(records)
