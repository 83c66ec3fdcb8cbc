"""The catalogue in use: prepared products, and what the topic `products` has made of them."""

from collections.abc import Sequence

import numpy as np

from shared.arm_statistics import Floats
from shared.catalogue import DataSet
from shared.events import PRODUCTS
from shared.kafka import KafkaCluster
from shared.live_catalogue import LiveCatalogue
from shared.products_feed import ProductsFeed


def open_products(cluster: KafkaCluster, data: DataSet) -> ProductsFeed:
    """The feed, read to its end as it is now.

    Raises:
        BrokerUnavailable: there is no such topic (yet), or no answer.
    """
    cluster.source(PRODUCTS)
    feed = ProductsFeed(cluster.consumer(PRODUCTS), LiveCatalogue(data.products))
    feed.catch_up()
    return feed


def features_of(catalogue: LiveCatalogue, data: DataSet, arms: Sequence[int]) -> Floats:
    """z of each of these products: as prepared, or as it was added."""
    prepared = dict(zip(data.arms, data.features.tolist(), strict=True))
    rows = []
    for arm in arms:
        entry = catalogue.entry(arm)
        added = entry.features if entry else {}
        rows.append(prepared.get(arm) or [added.get(name, 0.0) for name in data.feature_names])
    return np.array(rows, np.float64)
