"""Offline comparison of bandit policies on a logged history, by Mab2Rec and jurity.

The procedure is Mab2Rec's own `benchmark`: train each policy on the first 80 % of the events,
recommend the top 5 for the context of each remaining event, and score only the *matched* events,
those where the logged product is among the five (Li et al. 2011, "Unbiased offline evaluation of
contextual-bandit-based news article recommendation algorithms"). With 200 products shown at
random, that is one test event in 40, so each result comes with the count and interval behind it.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pandas as pd
from sklearn.model_selection import train_test_split

from reco.evaluation_data import (
    EVENT_ID,
    PRODUCT_ID,
    RESPONSE,
    UnusableData,
    check_products_known,
    context_columns,
)
from shared.off_policy import wilson_interval

with warnings.catch_warnings():
    # Invalid escapes in docstrings and the like: nothing that the reader of our output can mend.
    warnings.simplefilter("ignore")
    from jurity.recommenders import BinaryRecoMetrics, RankingRecoMetrics
    from jurity.utils import get_sorted_clicks
    from mab2rec.pipeline import benchmark
    from mab2rec.rec import BanditRecommender
    from mabwiser import mab

# The policies are nested in NamedTuples, where type checkers can't see them.
LearningPolicy: Any = mab.LearningPolicy
NeighborhoodPolicy: Any = mab.NeighborhoodPolicy

TOP_K: Final = 5
TEST_SHARE: Final = 0.2
CLUSTERS: Final = 10
CONFIDENCE: Final = 0.95
SCORE: Final = "score"
"""The column that Mab2Rec hands to jurity: the recommendation's score, or the logged response."""


class PolicyResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one policy did on the test events. None: not defined on the events that matched."""

    policy: str
    auc: float | None
    """Area under the ROC curve of the scores, over the matched events."""
    ctr: float | None
    """Share of the matched events that were clicked."""
    ctr_matched_events: int
    ctr_clicks: int
    ctr_interval: tuple[float, float] | None
    """Wilson score interval of `ctr`, 95 %."""
    precision: float | None
    """Share of the recommended products that were clicked, averaged over the clicked events."""
    recall: float | None
    """Share of the clicked products that were recommended, averaged over the clicked events."""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """All policies on one history."""

    events: int
    train_events: int
    test_events: int
    test_clicks: int
    """Clicked test events: what precision and recall are averaged over."""
    products: int
    """Products in the training events: only these can be recommended."""
    k: int
    seed: int
    policies: list[PolicyResult]


Progress = Callable[[str, int, int], None]
"""Called with (policy, its number from 1, number of policies) before each policy runs."""


def evaluate(
    history: pd.DataFrame,
    product_features: pd.DataFrame,
    seed: int,
    on_progress: Progress = lambda policy, number, total: None,
) -> Evaluation:
    """Train and test every policy on a history.

    Args:
        history: as `reco.evaluation_data.read_history` returns it, in time order.
        product_features: as `reco.evaluation_data.read_product_features` returns it.
        seed: of the policies' random numbers.
        on_progress: told which policy runs.

    Raises:
        UnusableData: a product without features, too few events, or no click to learn from or to
            test on.
    """
    check_products_known(history, product_features)
    train, test = _split(history)
    contexts = history[[EVENT_ID, *context_columns(history)]]
    recommenders = _recommenders(seed)
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, (policy, recommender) in enumerate(recommenders.items(), start=1):
            on_progress(policy, number, len(recommenders))
            results.append(
                _evaluate_policy(policy, recommender, train, test, contexts, product_features)
            )
    return Evaluation(
        events=len(history),
        train_events=len(train),
        test_events=len(test),
        test_clicks=int(test[RESPONSE].sum()),
        products=train[PRODUCT_ID].nunique(),
        k=TOP_K,
        seed=seed,
        policies=results,
    )


def caution(evaluation: Evaluation) -> str:
    """One sentence on how much of the table's CTR column is luck."""
    counts = [result.ctr_matched_events for result in evaluation.policies]
    low, high = min(counts), max(counts)
    between = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    share = CONFIDENCE * 100
    intervals = [r.ctr_interval for r in evaluation.policies if r.ctr_interval is not None]
    overlap = bool(intervals) and max(lo for lo, _ in intervals) <= min(hi for _, hi in intervals)
    conclusion = (
        f"all {share:.0f} % intervals overlap and the CTRs cannot say which policy is better"
        if overlap
        else f"CTRs whose {share:.0f} % intervals overlap do not say which policy is better"
    )
    return (
        f"AUC and CTR rest on the few test events whose logged product the policy would have "
        f"shown too, {between} of {evaluation.test_events:,}: {conclusion}."
    )


def _split(history: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The first 80 % and the rest, in the order of the log."""
    needed = math.ceil(CLUSTERS / (1 - TEST_SHARE))
    if len(history) < needed:
        raise UnusableData(
            f"the history has {len(history)} events: at least {needed} are needed, "
            f"so that the first 80 % fill the {CLUSTERS} clusters of ClustersTS"
        )
    train, test = train_test_split(history, test_size=TEST_SHARE, shuffle=False)
    for part, which in ((train, "first 80 %"), (test, "last 20 %")):
        if not part[RESPONSE].any():
            raise UnusableData(
                f"no event in the {which} of the history was clicked: "
                "use a longer history, with clicks throughout"
            )
    return train, test


def _recommenders(seed: int) -> dict[str, BanditRecommender]:
    policies = {
        "Random": (LearningPolicy.Random(), None),
        "Popularity": (LearningPolicy.Popularity(), None),
        "LinGreedy": (LearningPolicy.LinGreedy(epsilon=0.1), None),
        "LinUCB": (LearningPolicy.LinUCB(alpha=1.0), None),
        "LinTS": (LearningPolicy.LinTS(), None),
        "ClustersTS": (
            LearningPolicy.ThompsonSampling(),
            NeighborhoodPolicy.Clusters(n_clusters=CLUSTERS),
        ),
    }
    return {
        name: BanditRecommender(learning, neighborhood, top_k=TOP_K, seed=seed)
        for name, (learning, neighborhood) in policies.items()
    }


def _evaluate_policy(
    policy: str,
    recommender: BanditRecommender,
    train: pd.DataFrame,
    test: pd.DataFrame,
    contexts: pd.DataFrame,
    product_features: pd.DataFrame,
) -> PolicyResult:
    columns = {"click_column": SCORE, "user_id_column": EVENT_ID, "item_id_column": PRODUCT_ID}
    auc = BinaryRecoMetrics.AUC(**columns, k=TOP_K)
    ctr = BinaryRecoMetrics.CTR(**columns, k=TOP_K)
    precision = RankingRecoMetrics.Precision(**columns, k=TOP_K)
    recall = RankingRecoMetrics.Recall(**columns, k=TOP_K)
    # jurity keeps the last sorted recommendations and tells them apart by their scores alone, so
    # those of another run in this process (Random at the same seed) would be taken for these.
    get_sorted_clicks.cache_clear()
    try:
        recommendations, metrics = benchmark(
            {policy: recommender},
            metrics=[auc, ctr, precision, recall],
            train_data=train,
            test_data=test,
            user_features=contexts,
            item_features=product_features,
            user_id_col=EVENT_ID,
            item_id_col=PRODUCT_ID,
            response_col=RESPONSE,
        )
        # Mab2Rec returns lists only when it cross-validates.
        assert isinstance(recommendations, dict)
        assert isinstance(metrics, dict)
        matched = ctr.get_score(
            test.rename(columns={RESPONSE: SCORE}),
            recommendations[policy],
            return_extended_results=True,
        )
    finally:
        get_sorted_clicks.cache_clear()
    values = {name: _defined(value) for name, value in metrics[policy].items()}
    events = 0 if matched is None else int(matched["support"])
    clicks = 0 if matched is None else round(float(matched["ctr"]) * events)
    return PolicyResult(
        policy=policy,
        auc=values.get(str(auc)),
        ctr=values.get(str(ctr)),
        ctr_matched_events=events,
        ctr_clicks=clicks,
        ctr_interval=wilson_interval(clicks, events, CONFIDENCE),
        precision=values.get(str(precision)),
        recall=values.get(str(recall)),
    )


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
