"""The live page as a browser shows it."""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, expect

from server.live_feed import PartitionSeen, Replica
from server.openapi import openapi
from server.openapi import page as description
from shared.catalogue import DataSet, Product
from tests.e2e.browser import require_browser, window
from tests.e2e.live_page import PATIENCE_MS, answering, opened
from tests.e2e.system import System, running
from tests.live_scenario import Feeding
from tests.waiting import ready

ENDS_OF_TEXTS = """(cells) => cells.map((cell) => {
  const text = document.createRange();
  text.selectNodeContents(cell);
  const { left, right } = text.getBoundingClientRect();
  return [left, right];
})"""
FIRST_BAR = """() => {
  const first = document.querySelector("#slate > li");
  const place = (part) => part.getBoundingClientRect();
  const widths = [...first.querySelectorAll(".bar i")].map((part) => place(part).width);
  const { left, width } = place(first.querySelector(".bar"));
  return [first.querySelector(".head > span").innerText, left, width, ...widths];
}"""
"""In one go: the slate may be drawn anew between two questions."""
HOSTILE = "<img src=x onerror=\"document.title='broken into'\">"

pytestmark = pytest.mark.usefixtures("needs_browser")


@pytest.fixture(scope="module", autouse=True)
def needs_browser() -> None:
    require_browser()


@pytest.fixture(scope="module")
def system(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """All services, the history learned, and shoppers coming."""
    with running(data_folder, tmp_path_factory.mktemp("logs")) as system:
        system.start("trainer", "train")
        system.start("server", "serve", http="127.0.0.1:0")
        system.start("history", "produce", history=str(data_folder / "history.csv"))
        system.await_records("outcomes", 10_000)
        system.start("shoppers", "produce", rate=20)
        yield system


@pytest.fixture(scope="module")
def address(system: System) -> str:
    url = str(system.children["server"].lines.get(timeout=PATIENCE_MS / 1e3)["http"])
    system.until(lambda: ready(url), "ready")
    return url


def number(page: Page, selector: str) -> int:
    """The number that an element shows."""
    return int(re.sub(r"[^\d]", "", page.locator(selector).inner_text()) or -1)


def test_it_shows_the_visits_and_figures_move(address: str, wide: BrowserContext) -> None:
    with opened(wide, address) as (page, _, _):
        expect(page.locator("#list > li")).not_to_have_count(0)
        expect(page.locator("#list > li").first.locator("ol > li")).to_have_count(5)
        before = number(page, "#visits")
        expect(page.locator("#visits")).not_to_have_text(f"{before:,}")
        assert number(page, "#visits") > before
        expect(page.locator("#rate")).to_contain_text("%")
        expect(page.locator("#captured")).to_contain_text("%")
        expect(page.locator("#fresh")).to_contain_text(re.compile(r"\d (ms|s)"))
        expect(page.locator("#list li.clicked").first).to_contain_text("✓")


def test_it_says_what_was_learned(address: str, wide: BrowserContext) -> None:
    with opened(wide, address) as (page, _, _):
        learned = page.locator("#learned > li")
        expect(learned.nth(0)).to_contain_text("Coffee")
        expect(learned.nth(1)).to_contain_text("Pizzas")
        expect(learned.nth(1)).to_contain_text("Burgers & Sandwiches")
        coffee = page.locator("#heat tbody tr").filter(has_text="Coffee").locator("td:not(.gap)")
        expect(coffee).to_have_count(8)
        expect(coffee.nth(0)).to_have_class(re.compile("top"))  # the best of weekday mornings


def test_the_panel_answers_at_once_and_says_why(address: str, wide: BrowserContext) -> None:
    with opened(wide, address) as (page, _, requests):
        expect(page.locator("#slate > li")).to_have_count(5)
        page.get_by_role("button", name="Monday coffee").click()
        expect(page.locator("#hour-out")).to_have_text("07:30")
        expect(page.locator("#slate")).to_contain_text("Drinks & Desserts")
        first = page.locator("#slate > li").first
        expect(first.locator(".why")).to_contain_text("morning +")
        expect(first.locator(".bar i")).to_have_count(2)
        page.get_by_role("button", name="Saturday dinner").click()
        expect(page.locator("#slate > li").first).to_contain_text(re.compile("Pizza|Burger"))
        expect(page.locator("#slate > li").first.locator(".why")).to_contain_text("weekend +")
        assert not [url for url in requests if "/v1/rank" in url]


def test_every_control_of_the_panel_is_asked_with(address: str, wide: BrowserContext) -> None:
    with opened(wide, address) as (page, _, _):
        expect(page.locator("#slate > li")).to_have_count(5)
        changes: list[tuple[Callable[[], None], str]] = [
            (lambda: page.locator("#hour").fill("20"), '"2026-01-05T20:30:00"'),
            (lambda: page.locator("#age").fill("19"), '"age":19'),
            (lambda: page.locator("#day input").nth(6).check(), '"2026-01-11T20:30:00"'),
            (lambda: page.locator("#source input").nth(1).check(), '"Email"'),
            (lambda: page.locator("#gender input").nth(1).check(), '"gender":"M"'),
        ]
        for change, wanted in changes:
            with page.expect_request(asking(wanted)) as asked:
                change()
            answer = asked.value.response()
            assert answer is not None, wanted
            assert answer.status == 200, wanted


def test_every_control_has_a_name_says_its_value_and_obeys_the_keyboard(
    data: DataSet, wide: BrowserContext
) -> None:
    with (
        answering(Feeding(data)) as address,
        opened(wide, address) as (page, _, _),
    ):
        expect(page.locator("#slate > li")).to_have_count(5)
        hour = page.get_by_role("slider", name="Hour", exact=True)
        age = page.get_by_role("slider", name="Age", exact=True)
        hour.press("ArrowLeft")
        expect(hour).to_have_attribute("aria-valuetext", "07:30")
        age.press("ArrowRight")
        expect(age).to_have_attribute("aria-valuetext", "35 years")
        day = page.get_by_role("group", name="Day").get_by_role("radio")
        day.first.press("ArrowRight")
        expect(day.nth(1)).to_be_checked()
        page.get_by_role("button", name="Saturday dinner").press("Enter")
        expect(hour).to_have_attribute("aria-valuetext", "19:30")
        expect(page.get_by_role("combobox", name="Product")).to_have_count(1)
        for table in ("What it has learned so far", "Under the bonnet"):
            expect(page.get_by_role("table", name=table)).to_have_count(1)


def asking(wanted: str) -> Callable[[Request], bool]:
    """Whether a request asks for an explanation of such a context."""
    return lambda request: (
        request.url.endswith("/v1/explain") and wanted in (request.post_data or "")
    )


def test_it_shows_how_an_estimate_moves(address: str, wide: BrowserContext) -> None:
    with opened(wide, address) as (page, _, _):
        expect(page.locator("#learn-chart .band")).to_have_count(1)
        expect(page.locator("#learn-chart")).to_contain_text("chance of a click")
        expect(page.locator("#learn-chart")).to_contain_text("times shoppers have looked at it")
        before = page.locator("#arm-note").inner_text()
        page.locator("#arm").select_option("192")
        expect(page.locator("#arm-note")).not_to_have_text(before)
        expect(page.locator("#learn-chart")).to_have_attribute(
            "aria-label", re.compile("Long Black")
        )


def test_a_bar_is_as_long_as_the_chance_it_stands_for(data: DataSet, wide: BrowserContext) -> None:
    feeding = Feeding(data)
    feeding.view.learn(20)
    with (
        answering(feeding) as address,
        opened(wide, address) as (page, _, _),
    ):
        page.emulate_media(reduced_motion="reduce")
        first = page.locator("#slate > li").first
        expect(first).to_contain_text("looked at 20×")
        said, left, width, *parts = page.evaluate(FIRST_BAR)
        chances = [float(text) for text in re.findall(r"[\d.]+", said)]
        assert 0.0 < chances[0] + chances[1] < 100.0
        shown = [100.0 * part / width for part in parts]
        assert shown == pytest.approx(chances, abs=0.6)
        scale = page.locator(".scale span")
        expect(scale).to_have_text(["0 %", "25 %", "50 %", "75 %", "100 %"])
        middles = [
            (start + end) / 2 - left for start, end in scale.evaluate_all(ENDS_OF_TEXTS)[1:4]
        ]
        assert middles == pytest.approx([width * part for part in (0.25, 0.5, 0.75)], abs=1)


def test_a_reason_that_rounds_to_nothing_is_left_out(data: DataSet, wide: BrowserContext) -> None:
    shares = {"gender_F": -0.004, "is_weekday": 0.004, "is_morning": 0.006, "age": -0.12}
    tea = {"product_id": data.arms[0], "name": "Tea", "category": "Drinks", "price": 2.0}
    item = {
        **tea,
        "mean": -0.004,
        "bonus": 0.05,
        "n": 3,
        "clicks": 1,
        "contributions": [{"feature": name, "contribution": c} for name, c in shares.items()],
    }
    wide.route("**/v1/explain", lambda route: route.fulfill(json={"slate": [item]}))
    with (
        answering(Feeding(data)) as address,
        opened(wide, address) as (page, _, _),
    ):
        expect(page.locator("#slate .why span:not(.soft)")).to_have_text(
            ["age 34 −12", "morning +1"]
        )
        expect(page.locator("#slate .head > span")).to_have_text("0 % + 5.0 %")


def measure(element: Locator, name: str) -> float:
    """A number among an element's attributes."""
    return float(element.get_attribute(name) or "nan")


def test_no_chance_is_drawn_below_none_or_above_all(data: DataSet, wide: BrowserContext) -> None:
    feeding = Feeding(data)
    for looks in (2, 5, 20):  # at first it may be off by more than it is
        feeding.view.learn(looks)
        feeding.feed.sample()
    with (
        answering(feeding) as address,
        opened(wide, address) as (page, _, _),
    ):
        page.locator("#arm").select_option(str(data.arms[0]))
        expect(page.locator("#arm-note")).to_contain_text("after 20 looks")
        expect(page.locator("#arm-note")).to_contain_text("cut at 0\u00a0% and 100\u00a0%")
        chart = page.locator("#learn-chart")
        texts = chart.locator("text").all_text_contents()
        levels = [int(text.removesuffix(" %")) for text in texts if text.endswith("%")]
        assert min(levels) == 0 < max(levels) <= 100
        expect(chart.locator("g[clip-path='url(#learn-chart-plot)'] .band")).to_have_count(1)
        top, height = (
            measure(chart.locator("#learn-chart-plot rect"), name) for name in ("y", "height")
        )
        assert top + height == measure(chart.locator(".grid-line").first, "y1")  # that of 0 %


def test_it_shows_who_does_what(address: str, system: System, wide: BrowserContext) -> None:
    with opened(wide, address) as (page, _, _):
        rows = page.locator("#partitions tbody tr")
        expect(rows).to_have_count(12)
        expect(page.locator("#partitions")).not_to_contain_text("nobody yet")
        expect(page.locator("#replicas")).to_contain_text("trainer")
        expect(page.locator("#replicas")).to_contain_text("server")
        system.children["trainer"].kill()
        # Nobody learns: the lag grows, and is shown.
        expect(
            rows.locator("td:last-child").filter(has_text=re.compile(r"^[1-9]"))
        ).not_to_have_count(0)
        system.again("trainer")


def test_the_rate_chart_is_drawn_properly(address: str, wide: BrowserContext) -> None:
    with opened(wide, address) as (page, _, _):
        expect(page.locator("#rate-legend")).to_have_text("LiveRecobest possiblerandom")
        for line in ("us", "best", "random"):
            expect(page.locator(f"#rate-chart polyline.{line}")).to_have_count(1)
        expect(page.locator("#rate-chart")).to_contain_text("visits seen")
        expect(page.locator("#rate-chart")).to_contain_text("visits with a click")


def test_luck_is_said_beside_what_is_possible(data: DataSet, wide: BrowserContext) -> None:
    feeding = Feeding(
        data, lambda contexts: (np.full(len(contexts), 0.4), np.full(len(contexts), 0.9))
    )
    feeding.visit(*range(3))  # each with a click: more than the best may hope for
    with (
        answering(feeding) as address,
        opened(wide, address) as (page, _, _),
    ):
        expect(page.locator("#captured")).to_have_text("120 %")
        expect(page.locator("#captured-note")).to_contain_text("few visits, so mostly luck")
        feeding.visit(*range(3, 100))
        expect(page.locator("#captured-note")).to_have_text(
            "0 % = random, 100 % = perfect, give or take 20 % by luck"
        )


def test_an_experiment_is_shown_as_intervals(data: DataSet, wide: BrowserContext) -> None:
    feeding = Feeding(data)
    feeding.visit(*range(60), experiment="coffee", variant="linucb")
    feeding.visit(*range(61, 161), experiment="coffee", variant="random")
    feeding.feed.sample()
    with (
        answering(feeding) as address,
        opened(wide, address) as (page, _, _),
    ):
        card = page.locator("#experiment-card")
        expect(card).to_contain_text("coffee")
        expect(page.locator("#variants tbody tr")).to_have_count(2)
        expect(page.locator("#variants tbody tr").first).to_contain_text("linucb")
        chart = page.locator("#experiment-chart")
        expect(chart.locator("circle.dot")).to_have_count(1)
        expect(chart.locator("line.zero")).to_have_count(1)
        expect(chart).to_contain_text("click rate minus that of linucb, percentage points")
        expect(page.locator("#experiment-note")).to_contain_text("can't be told apart")
        ends = chart.locator("line.interval").first
        low, high = (float(ends.get_attribute(name) or "nan") for name in ("x1", "x2"))
        point = float(chart.locator("circle.dot").get_attribute("cx") or "nan")
        zero = float(chart.locator("line.zero").get_attribute("x1") or "nan")
        assert low < zero < high
        assert low < point < high


def test_without_an_experiment_there_is_no_panel_for_one(
    data: DataSet, wide: BrowserContext
) -> None:
    feeding = Feeding(data)
    feeding.visit(1, 2)
    with (
        answering(feeding) as address,
        opened(wide, address) as (page, _, _),
    ):
        expect(page.locator("#visits")).to_have_text("2")
        expect(page.locator("#experiment-card")).to_be_hidden()


@pytest.mark.parametrize(("width", "dark"), [(390, False), (320, True), (1440, True)])
def test_it_fits_a_phone_and_the_night(
    address: str, chromium: Browser, width: int, dark: bool
) -> None:
    with (
        window(chromium, width, 844, dark=dark) as context,
        opened(context, address) as (page, _, _),
    ):
        expect(page.locator("#list > li")).not_to_have_count(0)
        expect(page.locator("#slate > li")).to_have_count(5)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        levels = [int(level) for level in re.findall(r"\d+", background)]
        assert (max(levels) < 60) == dark


@pytest.mark.parametrize(("width", "dark"), [(320, True), (360, False), (1440, True)])
def test_the_description_fits_a_phone_and_the_night(
    chromium: Browser, width: int, dark: bool
) -> None:
    with window(chromium, width, 844, dark=dark) as context:
        shown = context.new_page()
        shown.set_content(description(openapi("1", keys=True)))
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        ink = shown.evaluate("getComputedStyle(document.body).color")
        assert (ink == "rgb(255, 255, 255)") == dark


@pytest.mark.parametrize("width", [320, 360, 641, 1001, 1280, 1440])
def test_the_times_of_the_week_stand_apart(data: DataSet, chromium: Browser, width: int) -> None:
    with (
        window(chromium, width, 844) as context,
        answering(Feeding(data)) as address,
        opened(context, address) as (page, _, _),
    ):
        times = page.locator("#heat thead tr:nth-child(2) th:not(.first, .gap)")
        expect(times).to_have_count(8)
        for (_, right), (left, _) in pairwise(times.evaluate_all(ENDS_OF_TEXTS)):
            assert right + 3 <= left


@pytest.mark.parametrize("groups", [0, 1, 2])
def test_products_of_few_groups_are_shown_as_well(
    data: DataSet, wide: BrowserContext, groups: int
) -> None:
    one_of_each = {product.category: product.product_id for product in data.products}
    feeding = Feeding(data)
    feeding.view.rank(*list(one_of_each.values())[:groups])
    feeding.feed.sample()
    with (
        answering(feeding) as address,
        opened(wide, address) as (page, _, _),
    ):
        expect(page.locator("#heat tbody tr")).to_have_count(groups)
        expect(page.locator("#learned > li")).to_have_text(
            ["In the morning: nothing clear yet", "At the weekend: nothing clear yet"]
        )
        feeding.visit(1)
        expect(page.locator("#visits")).to_have_text("1")


def test_the_products_to_choose_from_follow_those_that_are_ranked(
    data: DataSet, wide: BrowserContext
) -> None:
    feeding, page, (one, two, three) = Feeding(data), wide.new_page(), data.products[:3]
    chosen, chart = page.locator("#arm"), page.locator("#learn-chart")

    def ranked(*products: Product) -> None:
        feeding.view.rank(*(product.product_id for product in products))

    def shows(product: Product, count: int) -> None:
        expect(page.locator("#arm option")).to_have_count(count)
        expect(chosen).to_have_value(str(product.product_id))
        expect(chart).to_have_attribute("aria-label", re.compile(f"^{re.escape(product.name)}: "))
        expect(page.locator("#arm-note")).to_contain_text("Now ")

    ranked(one, two)
    feeding.feed.sample()
    with answering(feeding) as address:
        page.goto(address)
        expect(chart).to_have_attribute("aria-label", re.compile("±"))
        chosen.select_option(str(two.product_id))
        shows(two, 2)
        ranked(one, two, three)
        feeding.feed.sample()
        shows(two, 3)
        ranked(three)
        expect(chart).to_have_text("nothing to draw yet")  # it is not known here yet that it went
        expect(page.locator("#arm-note")).to_be_empty()
        feeding.feed.sample()
        shows(three, 1)
        ranked()
        feeding.feed.sample()
        expect(page.locator("#arm option")).to_have_count(0)
        expect(chart).to_have_text("nothing to draw yet")
        page.close()


@pytest.fixture
def hostile(data: DataSet) -> Feeding:
    """A world where every name is an attack."""
    products = [structs.replace(product, name=HOSTILE) for product in data.products]
    feeding = Feeding(structs.replace(data, products=products))
    feeding.visit(1, 2)
    feeding.feed.status([PartitionSeen(0, HOSTILE, 0, 0, 0)], [Replica(HOSTILE, HOSTILE, HOSTILE)])
    feeding.feed.sample()
    return feeding


def test_names_are_shown_as_they_are_and_never_run(hostile: Feeding, wide: BrowserContext) -> None:
    with (
        answering(hostile) as address,
        opened(wide, address) as (page, _, _),
    ):
        expect(page.locator("#slate > li").first).to_contain_text(HOSTILE)
        expect(page.locator("#replicas")).to_contain_text(HOSTILE)
        expect(page.locator("#partitions")).to_contain_text(HOSTILE)
        assert page.locator("img").count() == 0
        assert page.title() == "LiveReco, live"
