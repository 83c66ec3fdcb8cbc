"""The catalogue in use: prepared products, and what the topic `products` has made of them."""

from collections.abc import Iterable, Sequence

import numpy as np

from reco.brokers import open_cluster
from shared.arm_statistics import Floats
from shared.catalogue import DataSet
from shared.events import PRODUCTS
from shared.kafka import KafkaCluster
from shared.live_catalogue import LiveCatalogue
from shared.products_feed import ProductsFeed


def open_products(
    cluster: KafkaCluster, data: DataSet, catalogue: LiveCatalogue | None = None
) -> ProductsFeed:
    """The feed, read to its end as it is now.

    Args:
        cluster: the broker.
        data: the prepared products.
        catalogue: of these; what the feed is folded into, if it is to be one of the caller's.

    Raises:
        BrokerUnavailable: there is no such topic (yet), or no answer.
    """
    cluster.source(PRODUCTS)
    catalogue = catalogue or LiveCatalogue(data.products)
    feed = ProductsFeed(cluster.consumer(PRODUCTS), catalogue)
    feed.catch_up()
    return feed


def catalogue_with(
    product_ids: Iterable[int], data: DataSet, kafka: str, patience_s: float
) -> LiveCatalogue:
    """A catalogue that has these, if there are such products at all.

    The broker is asked only where the prepared ones are not enough, so that a look at these needs
    none.

    Raises:
        BrokerUnavailable, click.UsageError: see `open_cluster`.
    """
    if set(product_ids) <= set(data.arms):
        return LiveCatalogue(data.products)
    feed = open_products(open_cluster(kafka, patience_s), data)
    feed.close()
    return feed.catalogue


def features_of(catalogue: LiveCatalogue, data: DataSet, arms: Sequence[int]) -> Floats:
    """z of each of these products: as prepared, or as it was added."""
    prepared = dict(zip(data.arms, data.features.tolist(), strict=True))
    rows = []
    for arm in arms:
        entry = catalogue.entry(arm)
        added = entry.features if entry else {}
        rows.append(prepared.get(arm) or [added.get(name, 0.0) for name in data.feature_names])
    return np.array(rows, np.float64)
