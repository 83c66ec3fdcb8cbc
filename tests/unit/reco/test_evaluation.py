import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from reco.evaluation import caution, evaluate
from reco.evaluation_data import UnusableData
from shared.off_policy import wilson_interval

COLUMNS = ("temperature", "wind", "is_sunny", "distance")


def made_history(events: int = 600, products: int = 12, seed: int = 5) -> pd.DataFrame:
    """A log whose clicks depend on the context and the product, with columns of its own."""
    rng = np.random.default_rng(seed)
    context = rng.random((events, len(COLUMNS))).round(6)
    shown = rng.integers(0, products, events)
    logit = -2.0 + 3.0 * context[:, 0] * (shown % 3 == 0) + 2.0 * context[:, 2] * (shown % 4 == 1)
    clicked = (rng.random(events) < 1 / (1 + np.exp(-logit))).astype(int)
    return pd.DataFrame(
        {"event_id": [str(number) for number in range(1, events + 1)]}
        | {name: context[:, column] for column, name in enumerate(COLUMNS)}
        | {"product_id": [str(product + 40) for product in shown], "response": clicked}
    )


def made_features(history: pd.DataFrame) -> pd.DataFrame:
    products = sorted(history["product_id"].unique())
    return pd.DataFrame({"product_id": products, "price": np.linspace(0, 1, len(products))})


def by_mab2rec(
    history: pd.DataFrame, features: pd.DataFrame, seed: int, only: str | None = None
) -> dict[str, dict[str, float]]:
    """The same comparison by one plain call of Mab2Rec, with whole numbers for identifiers."""
    from jurity.recommenders import BinaryRecoMetrics, RankingRecoMetrics
    from mab2rec import pipeline, rec
    from mabwiser import mab

    history = history.astype({"event_id": int, "product_id": int})
    features = features.astype({"product_id": int})
    train, test = train_test_split(history, test_size=0.2, shuffle=False)
    learning, neighborhood = vars(mab.LearningPolicy), vars(mab.NeighborhoodPolicy)
    policies = {
        "Random": (learning["Random"](), None),
        "Popularity": (learning["Popularity"](), None),
        "LinGreedy": (learning["LinGreedy"](epsilon=0.1), None),
        "LinUCB": (learning["LinUCB"](alpha=1.0), None),
        "LinTS": (learning["LinTS"](), None),
        "ClustersTS": (learning["ThompsonSampling"](), neighborhood["Clusters"](n_clusters=10)),
    }
    columns = {
        "click_column": "score",
        "user_id_column": "event_id",
        "item_id_column": "product_id",
    }
    _, metrics = pipeline.benchmark(
        {
            name: rec.BanditRecommender(policy, neighbors, top_k=5, seed=seed)
            for name, (policy, neighbors) in policies.items()
            if only in (None, name)
        },
        metrics=[
            BinaryRecoMetrics.AUC(**columns, k=5),
            BinaryRecoMetrics.CTR(**columns, k=5),
            RankingRecoMetrics.Precision(**columns, k=5),
            RankingRecoMetrics.Recall(**columns, k=5),
        ],
        train_data=train,
        test_data=test,
        user_features=history[["event_id", *COLUMNS]],
        item_features=features,
        user_id_col="event_id",
        item_id_col="product_id",
        response_col="response",
    )
    assert isinstance(metrics, dict)
    return metrics


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_figures_are_those_of_mab2rec_to_the_last_digit() -> None:
    history = made_history()
    features = made_features(history)
    ours = evaluate(history, features, seed=1237)
    theirs = by_mab2rec(history, features, seed=1237)
    assert [result.policy for result in ours.policies] == list(theirs)
    for result in ours.policies:
        assert {
            "AUC(score)@5": result.auc,
            "CTR(score)@5": result.ctr,
            "Precision@5": result.precision,
            "Recall@5": result.recall,
        } == theirs[result.policy]


def test_the_last_fifth_of_the_log_is_the_test() -> None:
    history = made_history(events=101)
    result = evaluate(history, made_features(history), seed=1)
    assert (result.events, result.train_events, result.test_events) == (101, 80, 21)
    assert result.test_clicks == history["response"][80:].sum()
    assert result.products == history["product_id"][:80].nunique()


def test_matched_events_and_clicks_give_the_ctr_inside_its_interval() -> None:
    history = made_history()
    for result in evaluate(history, made_features(history), seed=1237).policies:
        assert result.ctr is not None
        assert result.ctr_interval is not None
        assert 0 < result.ctr_matched_events < 120
        assert result.ctr == pytest.approx(result.ctr_clicks / result.ctr_matched_events)
        assert result.ctr_interval[0] < result.ctr < result.ctr_interval[1]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_neither_a_use_of_mab2rec_before_nor_one_after_changes_the_figures() -> None:
    # jurity keeps the last few sorted recommendations, and tells them apart by their scores alone.
    history = made_history()
    features = made_features(history)
    before = by_mab2rec(history, features, seed=3, only="Random")["Random"]
    random, *_, clusters = evaluate(history, features, seed=3).policies
    after = by_mab2rec(history, features, seed=3, only="ClustersTS")["ClustersTS"]
    assert (random.policy, random.ctr) == ("Random", before["CTR(score)@5"])
    assert (clusters.policy, clusters.ctr) == ("ClustersTS", after["CTR(score)@5"])


def test_the_seed_decides_what_random_recommends() -> None:
    history = made_history()
    features = made_features(history)
    one, same, other = (evaluate(history, features, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.policies[0] != other.policies[0]


def test_progress_names_each_policy_before_it_runs() -> None:
    history = made_history(events=100)
    told: list[tuple[str, int, int]] = []
    evaluate(
        history,
        made_features(history),
        seed=1,
        on_progress=lambda policy, number, total: told.append((policy, number, total)),
    )
    names = ["Random", "Popularity", "LinGreedy", "LinUCB", "LinTS", "ClustersTS"]
    assert told == [(name, number, 6) for number, name in enumerate(names, start=1)]


def test_the_smallest_history_that_is_accepted_is_evaluated() -> None:
    history = made_history(events=13)
    history["response"] = [1, 0] * 6 + [1]
    result = evaluate(history, made_features(history), seed=1)
    assert result.train_events == 10
    with pytest.raises(UnusableData, match="has 12 events: at least 13 are needed"):
        evaluate(history[:12], made_features(history), seed=1)


def test_few_distinct_contexts_and_one_product_are_enough() -> None:
    history = made_history(events=40, products=1)
    history[list(COLUMNS)] = 0.5
    history["response"] = [1, 0] * 20
    result = evaluate(history, made_features(history), seed=1)
    assert [policy.ctr_matched_events for policy in result.policies] == [8] * 6
    assert [policy.ctr for policy in result.policies] == [0.5] * 6


def test_where_nothing_matches_the_figures_are_undefined_and_not_zero() -> None:
    history = made_history(events=50)
    history["response"] = [1, 0] * 25
    history.loc[40:, "product_id"] = "99"
    for result in evaluate(history, made_features(history), seed=1).policies:
        assert result.ctr_matched_events == 0
        assert result.auc is None
        assert result.ctr is None
        assert result.ctr_interval is None
        assert result.recall == 0


@pytest.mark.parametrize(
    ("silent", "said"), [(slice(0, 79), "first 80 %"), (slice(80, 99), "last 20 %")]
)
def test_a_history_without_clicks_where_they_are_needed_is_refused(
    silent: slice, said: str
) -> None:
    history = made_history(events=100)
    history["response"] = 1
    history.loc[silent, "response"] = 0
    with pytest.raises(UnusableData, match=f"no event in the {said} of the history was clicked"):
        evaluate(history, made_features(history), seed=1)


def test_a_product_without_features_is_refused() -> None:
    history = made_history()
    with pytest.raises(UnusableData, match="1 of the 12 products"):
        evaluate(history, made_features(history)[1:], seed=1)


def test_the_caution_counts_the_matched_events() -> None:
    result = evaluate(made_history(), made_features(made_history()), seed=1237)
    counts = [policy.ctr_matched_events for policy in result.policies]
    assert f"{min(counts)} to {max(counts)} of 120" in caution(result)
    assert "95 % intervals overlap" in caution(result)


def test_wilson_intervals_are_those_of_the_literature() -> None:
    # Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I.
    assert wilson_interval(81, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148, 0.95) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20, 0.95) == pytest.approx((0, 0.1611), abs=5e-5)
    assert wilson_interval(1, 29, 0.95) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert wilson_interval(0, 0, 0.95) is None
