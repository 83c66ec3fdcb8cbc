"""Products come and go while trainers run: whoever judges an outcome, at any time, judges alike."""

from collections.abc import Callable

import msgspec
import pytest

from producer.new_products import NewProduct
from reco.product_changes import CannotChange, add, change_of, retire
from reco.rebuild import compare_all
from shared.catalogue import Product
from shared.events import DEAD_LETTERS, OUTCOMES, PRODUCTS, encode, key_of
from shared.live_catalogue import Entry, LiveCatalogue
from shared.partitioner import partition_of
from shared.ports import BrokerUnavailable
from shared.products_feed import ProductsFeed
from shared.testing import Crash, FakeBroker, FakeClock, FakeStore
from tests.scenario import ARMS, CONFIG, NOON, PARTITIONS, WINDOW, outcome
from trainer.apply import Rules
from trainer.loop import Trainer

NEW = 77
HOME = partition_of(key_of(NEW), PARTITIONS)
NEIGHBOUR = next(arm for arm in ARMS if partition_of(key_of(arm), PARTITIONS) == HOME)
PREPARED = [Product(arm, f"product {arm}", "Pizzas", 10.0, False) for arm in ARMS]
ITEM = NewProduct(Product(NEW, "New", "Pizzas", 9.0, False), {"price": 0.5})


class Shop:
    """A fake broker and store, one trainer, and someone who changes the catalogue."""

    def __init__(self) -> None:
        self.broker = FakeBroker({OUTCOMES: PARTITIONS, DEAD_LETTERS: 2, PRODUCTS: 1})
        self.store = FakeStore()
        self.clock = FakeClock()
        self.sent = 0
        self.trainer = Trainer(
            self.broker.consumer(OUTCOMES, "g", reset="error"),
            self.broker.producer(),
            self.store,
            lambda: self.broker.source(OUTCOMES),
            self.rules(),
            writer="trainer",
            clock=self.clock,
        )
        self.trainer.assigned(range(PARTITIONS))

    def feed(self) -> ProductsFeed:
        return ProductsFeed(self.broker.consumer(PRODUCTS, "alone"), LiveCatalogue(PREPARED))

    def rules(self) -> Rules:
        return Rules.of(CONFIG, ARMS, PARTITIONS, WINDOW, self.feed())

    def catalogue(self) -> LiveCatalogue:
        feed = self.feed()
        feed.catch_up()
        return feed.catalogue

    def send(self, arm: int = NEW) -> None:
        """An outcome arrives where the arm lives, whether anyone knows it or not."""
        self.sent += 1
        home = partition_of(key_of(arm), PARTITIONS)
        self.broker.append(OUTCOMES, home, key_of(arm), encode(outcome(self.sent, arm)))

    def train(self) -> None:
        for _ in range(4):
            self.clock.now_s += 3.0
            self.trainer.run_once(0.0)

    def add(
        self,
        die_at: str | None = None,
        between: bool = False,
        item: NewProduct = ITEM,
        then: Callable[[str], None] = lambda name: None,
    ) -> None:
        """Add the product; die at a step, or let outcomes come and the trainer run at each."""

        def step(name: str) -> None:
            if name == die_at:
                raise Crash(name)
            then(name)
            if between:
                self.send()
                self.train()

        consumer = self.broker.consumer(OUTCOMES, "admin")
        add(
            [item],
            self.catalogue(),
            self.broker.producer(),
            consumer.watermarks,
            lambda: self.broker.source(OUTCOMES),
            lambda: NOON,
            step,
        )

    def make_outcomes_anew(self) -> None:
        """The topic is deleted and made again, and a model of another name begins."""
        self.broker.recreate(OUTCOMES, f"made after {self.sent}")
        self.store.states.clear()

    def add_as_before_logs_were_named(self, from_offset: int, *, retired: bool = False) -> None:
        change = change_of(Entry(*ITEM, retired, from_offset), NOON)
        self.broker.append(PRODUCTS, 0, key_of(NEW), encode(change))

    def assert_agreed(self) -> tuple[int, int]:
        """A replay from scratch agrees to the bit; returns (applied, dead letters)."""
        consumer = self.broker.consumer(OUTCOMES, "replay", reset="error")
        states = [self.store.states.get(partition) for partition in range(PARTITIONS)]
        report, _ = compare_all(consumer, self.rules(), states, {}, self.broker.source(OUTCOMES))
        assert report.violations == []
        assert (report.differing_bits, report.lag) == (0, 0)
        return report.applied, report.dead_letters


def test_a_product_that_is_added_is_learned_by_a_trainer_that_runs() -> None:
    shop = Shop()
    shop.send(1)
    shop.train()
    shop.add()
    assert shop.catalogue().arms[-1] == NEW
    shop.send()
    shop.train()
    assert NEW in shop.store.states[HOME].rows
    assert shop.assert_agreed() == (2, 0)


def test_outcomes_of_before_it_was_added_stay_an_unknown_products() -> None:
    shop = Shop()
    shop.send()
    shop.train()
    shop.send()  # not judged yet when the product is added
    shop.add()
    shop.send()
    shop.train()
    assert shop.assert_agreed() == (1, 2)


def test_outcomes_that_come_while_it_is_added_are_judged_alike_by_all() -> None:
    shop = Shop()
    shop.send()
    shop.train()
    shop.add(between=True)
    shop.send()
    shop.train()
    applied, dead = shop.assert_agreed()
    assert applied + dead == shop.sent
    assert dead == 2  # before the end was read: one long before, one just
    assert applied == 2


@pytest.mark.parametrize("die_at", ["announced", "placed"])
def test_who_dies_while_adding_leaves_nothing_that_can_not_be_finished(die_at: str) -> None:
    shop = Shop()
    shop.send(1)
    shop.train()
    with pytest.raises(Crash):
        shop.add(die_at=die_at)
    assert NEW not in shop.catalogue().arms
    shop.send()  # of a product that nobody ranks yet: judged only once it is clear
    shop.train()
    assert "being added" in shop.trainer.counts.waiting[HOME]
    shop.add()
    shop.send()
    shop.train()
    assert shop.trainer.ready
    assert shop.assert_agreed() == (2, 1)


def broken_off(shop: Shop, _: pytest.MonkeyPatch) -> None:
    with pytest.raises(Crash):
        shop.add(die_at="announced")


def unreadable(_: Shop, patch: pytest.MonkeyPatch) -> None:
    def catch_up(feed: ProductsFeed) -> None:
        raise BrokerUnavailable("the topic products does not answer")

    patch.setattr(ProductsFeed, "catch_up", catch_up)


def with_an_outcome_that_can_not_be_judged(
    fault: Callable[[Shop, pytest.MonkeyPatch], None], patch: pytest.MonkeyPatch
) -> Shop:
    """It lies before an outcome of each product, and the trainer has met it."""
    shop = Shop()
    shop.train()
    fault(shop, patch)
    for arm in [NEIGHBOUR, NEW, *ARMS]:
        shop.send(arm)
    shop.train()
    return shop


def ends(shop: Shop) -> dict[int, int]:
    return {p: shop.broker.watermarks(OUTCOMES, p).end for p in range(PARTITIONS)}


@pytest.mark.parametrize("fault", [broken_off, unreadable])
def test_an_outcome_that_can_not_be_judged_yet_holds_up_no_other_partition(
    fault: Callable[[Shop, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = with_an_outcome_that_can_not_be_judged(fault, monkeypatch)
    elsewhere = {p: end for p, end in ends(shop).items() if p != HOME}
    assert shop.trainer.positions == elsewhere
    assert (list(shop.trainer.counts.waiting), shop.trainer.ready) == ([HOME], False)
    assert shop.trainer.owned == list(range(PARTITIONS))
    for arm in ARMS:
        shop.send(arm)
    shop.train()
    assert shop.trainer.positions == {p: end for p, end in ends(shop).items() if p != HOME}
    monkeypatch.undo()
    if fault is broken_off:
        shop.add()
    shop.train()
    assert shop.trainer.ready
    assert shop.trainer.not_ready == []
    assert shop.trainer.counts.reloads == 0
    assert shop.assert_agreed() == (1 + 2 * len(ARMS), 1)


def test_a_broker_that_does_not_answer_is_asked_once_between_two_polls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = Shop()
    shop.train()
    asked = list[ProductsFeed]()

    def catch_up(feed: ProductsFeed) -> None:
        asked.append(feed)
        raise BrokerUnavailable("the topic products does not answer")

    monkeypatch.setattr(ProductsFeed, "catch_up", catch_up)
    homes = {partition_of(key_of(arm), PARTITIONS): arm for arm in range(NEW, 200)}
    for arm in [*homes.values(), *ARMS]:
        shop.send(arm)
    for polls in range(1, 2 * PARTITIONS):
        shop.trainer.run_once(0.0)
        assert len(asked) == polls
        assert list(shop.trainer.counts.waiting) == list(range(PARTITIONS))
        shop.clock.now_s += 3.0
    monkeypatch.undo()
    shop.train()
    assert shop.trainer.ready
    assert shop.assert_agreed() == (len(ARMS), PARTITIONS)


def test_while_a_product_is_being_added_the_same_poll_judges_all_other_partitions() -> None:
    shop = Shop()
    shop.train()
    first, *others = range(PARTITIONS)
    unfinished = next(n for n in range(NEW, 200) if partition_of(key_of(n), PARTITIONS) == first)
    item = ITEM._replace(product=msgspec.structs.replace(ITEM.product, product_id=unfinished))
    with pytest.raises(Crash):
        shop.add(die_at="announced", item=item)
    for arm in [unfinished, *ARMS]:
        shop.send(arm)
    shop.trainer.run_once(0.0)
    assert list(shop.trainer.counts.waiting) == [first]
    assert shop.trainer.positions == {partition: ends(shop)[partition] for partition in others}


def test_nothing_behind_an_outcome_that_can_not_be_judged_is_taken_before_it() -> None:
    shop = Shop()
    shop.train()
    with pytest.raises(Crash):
        shop.add(die_at="announced")
    shop.trainer._chunk = 1  # a round for each of the poll's records
    for arm in [NEIGHBOUR, NEW, NEIGHBOUR]:
        shop.send(arm)
    shop.train()
    assert shop.store.states[HOME].position.next_offset == 1
    shop.add()
    shop.train()
    assert shop.assert_agreed() == (2, 1)


def test_a_product_that_is_never_finished_keeps_no_other_waiting() -> None:
    shop = Shop()
    other = next(
        arm
        for arm in range(NEW, 200)
        if partition_of(key_of(arm), PARTITIONS) == (HOME + 1) % PARTITIONS
    )
    item = ITEM._replace(product=msgspec.structs.replace(ITEM.product, product_id=other))
    for added in (ITEM, item):
        with pytest.raises(Crash):
            shop.add(die_at="announced", item=added)
    for arm in (NEW, other):
        shop.send(arm)
    shop.train()
    assert shop.trainer.counts.waiting.keys() == {HOME, (HOME + 1) % PARTITIONS}
    shop.add(item=item)
    shop.train()
    assert list(shop.trainer.counts.waiting) == [HOME]


def given_again(shop: Shop) -> None:
    shop.trainer.revoked([HOME])
    assert HOME not in shop.trainer.owned
    shop.trainer.assigned([HOME])


def replaced(shop: Shop) -> None:
    shop.store.replace(HOME, shop.store.states[HOME])


def emptied(shop: Shop) -> None:
    shop.store.flush()


@pytest.mark.parametrize("fault", [given_again, replaced, emptied])
def test_a_partition_that_waits_for_a_judgement_is_read_again_if_it_was(
    fault: Callable[[Shop], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = with_an_outcome_that_can_not_be_judged(broken_off, monkeypatch)
    fault(shop)
    shop.train()
    assert list(shop.trainer.counts.waiting) == [HOME]
    shop.add()
    shop.train()
    assert shop.trainer.ready
    assert shop.assert_agreed() == (1 + len(ARMS), 1)


def test_a_partition_that_waits_for_a_judgement_does_not_go_on_in_another_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = with_an_outcome_that_can_not_be_judged(broken_off, monkeypatch)
    shop.make_outcomes_anew()
    shop.train()
    shop.add()
    shop.send(NEIGHBOUR)
    shop.train()
    assert shop.trainer.ready
    assert shop.assert_agreed() == (1, 0)


def test_a_retired_product_is_not_ranked_and_its_late_outcomes_count() -> None:
    shop = Shop()
    retire([3], shop.catalogue(), shop.broker.producer(), lambda: NOON)
    assert 3 not in shop.catalogue().arms
    shop.send(3)
    shop.train()
    assert shop.assert_agreed() == (1, 0)
    shop.add()
    retire([NEW], shop.catalogue(), shop.broker.producer(), lambda: NOON)
    shop.send()
    shop.train()
    assert shop.assert_agreed() == (2, 0)
    entry = shop.catalogue().entry(NEW)
    assert entry
    assert entry.features == ITEM.features


@pytest.mark.parametrize(
    ("product_ids", "complaint"),
    [
        ([999], "is not there"),
        ([3], "is retired already"),
        ([arm for arm in ARMS if arm != 3], "no product would be left"),
    ],
)
def test_what_can_not_be_retired_is_refused(product_ids: list[int], complaint: str) -> None:
    shop = Shop()
    retire([3], shop.catalogue(), shop.broker.producer(), lambda: NOON)
    with pytest.raises(CannotChange, match=complaint):
        retire(product_ids, shop.catalogue(), shop.broker.producer(), lambda: NOON)


def test_an_id_is_given_once() -> None:
    shop = Shop()
    shop.add()
    with pytest.raises(CannotChange, match="product 77 is there already"):
        shop.add()
    retire([NEW], shop.catalogue(), shop.broker.producer(), lambda: NOON)
    with pytest.raises(CannotChange, match="is there already"):
        shop.add()


def test_without_anyone_to_ask_a_stranger_is_a_stranger() -> None:
    shop = Shop()
    shop.send()
    consumer = shop.broker.consumer(OUTCOMES, "plain", reset="error")
    shop.train()
    states = [shop.store.states.get(partition) for partition in range(PARTITIONS)]
    report, _ = compare_all(consumer, Rules.of(CONFIG, ARMS, PARTITIONS, WINDOW), states, {})
    assert report.dead_letters == 1


@pytest.mark.parametrize("running", [True, False], ids=["running", "started later"])
def test_in_outcomes_that_were_made_anew_an_added_product_counts_from_the_first(
    running: bool,
) -> None:
    shop = Shop()
    shop.make_outcomes_anew()
    shop.send()
    shop.send()
    shop.add()
    shop.send()
    if running:
        shop.train()
        assert shop.assert_agreed() == (1, 2)
    shop.make_outcomes_anew()
    shop.send()
    shop.train()
    assert shop.assert_agreed() == (1, 0)


def test_a_product_that_is_added_to_outcomes_that_are_made_anew_meanwhile_is_judged_alike() -> None:
    shop = Shop()
    shop.make_outcomes_anew()
    shop.send()
    shop.train()

    def then(name: str) -> None:
        if name == "announced":
            shop.make_outcomes_anew()

    shop.add(between=True, then=then)
    shop.train()
    assert shop.assert_agreed() == (1, 1)


def test_retiring_leaves_a_product_in_the_log_in_which_it_was_added() -> None:
    shop = Shop()
    shop.make_outcomes_anew()
    shop.send()
    shop.add()
    shop.make_outcomes_anew()
    retire([NEW], shop.catalogue(), shop.broker.producer(), lambda: NOON)
    shop.send()  # of a slate that was still being looked at
    shop.train()
    assert shop.assert_agreed() == (1, 0)


def test_an_offset_whose_log_is_not_named_is_one_of_every_log() -> None:
    shop = Shop()
    shop.make_outcomes_anew()
    shop.add_as_before_logs_were_named(2)
    shop.send()
    shop.train()
    shop.make_outcomes_anew()
    for _ in range(3):
        shop.send()
    shop.train()
    assert shop.assert_agreed() == (1, 2)


def test_a_product_of_outcomes_that_are_gone_and_not_named_is_added_again() -> None:
    shop = Shop()
    shop.make_outcomes_anew()
    shop.add_as_before_logs_were_named(31_467)
    shop.send()
    shop.train()
    assert shop.assert_agreed() == (0, 1)
    shop.add(between=True)
    shop.send()
    shop.train()
    assert shop.assert_agreed() == (2, 2)
    assert shop.catalogue().arms[-1] == NEW


def test_added_again_it_begins_no_later_than_some_have_counted_it() -> None:
    shop = Shop()
    shop.make_outcomes_anew()
    shop.add_as_before_logs_were_named(2)
    shop.send()
    shop.train()

    def then(name: str) -> None:
        if name == "announced":
            shop.send(NEIGHBOUR)
            shop.send()  # at offset 2: by a trainer that has met the product, counted at once
            shop.train()

    shop.add(then=then)
    assert shop.assert_agreed() == (2, 1)


@pytest.mark.parametrize(
    ("from_offset", "retired", "price"), [(1, False, 9.0), (9, True, 9.0), (9, False, 8.0)]
)
def test_what_counts_or_is_retired_or_is_another_product_is_not_added_again(
    from_offset: int, retired: bool, price: float
) -> None:
    shop = Shop()
    shop.send()
    shop.add_as_before_logs_were_named(from_offset, retired=retired)
    item = ITEM._replace(product=msgspec.structs.replace(ITEM.product, price=price))
    with pytest.raises(CannotChange, match="product 77 is there already"):
        shop.add(item=item)
