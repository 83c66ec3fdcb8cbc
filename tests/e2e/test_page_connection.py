"""What the live page says of its server: away, hanging, asking for a key, or paused by a reader."""

import re

from playwright.sync_api import BrowserContext, Page, expect

from server.live_state import RECENT
from shared.catalogue import DataSet
from tests.e2e.live_page import answering, opened
from tests.live_scenario import Feeding
from tests.waiting import until

SAY_WHAT_IS_SAID = """window.said = [];
new MutationObserver(() => window.said.push(document.querySelector("#state-text").textContent))
  .observe(document.querySelector("#state-text"), { childList: true })"""

UNABLE = """() => {
  const { fetch } = window;
  window.streams = [];
  window.fetch = (path, options) => {
    if (path === "v1/live") window.streams.push(options.signal);
    return fetch(path, options);
  };
  window.take = () => { throw new Error("too strange"); };
}"""


def test_a_server_that_was_away_is_found_again(data: DataSet, wide: BrowserContext) -> None:
    before, after, page = Feeding(data), Feeding(data, began_s=90_000.0), wide.new_page()
    before.visit(*range(RECENT + 1))
    with answering(before) as address:
        page.goto(address)
        expect(page.locator("#state-text")).to_have_text("live")
        expect(page.locator("#rate-note")).to_contain_text("the last 1,000 visits")
        since = page.locator("#rate-since").inner_text()
        assert "1970" in since
    expect(page.locator("#state-text")).to_contain_text("does not answer")
    after.visit(1)
    with answering(after, address.removeprefix("http://")):
        expect(page.locator("#state-text")).to_have_text("live")
        expect(page.locator("#visits")).to_have_text("1")
        expect(page.locator("#rate-note")).to_contain_text("the last visit with a click")
        expect(page.locator("#rate-since")).not_to_have_text(since)
        page.close()


def test_visits_that_are_listed_are_not_listed_again_by_the_next_stream(
    data: DataSet, wide: BrowserContext
) -> None:
    feeding, page = Feeding(data), wide.new_page()
    feeding.visit(1, 2)
    with answering(feeding) as address:
        page.goto(address)
        expect(page.locator("#list > li")).to_have_count(2)
    expect(page.locator("#state-text")).to_contain_text("does not answer")
    feeding.visit(3)
    with answering(feeding, address.removeprefix("http://")):
        expect(page.locator("#visits")).to_have_text("3")
        until(lambda: page.evaluate("known.listed === 3 && !known.queue.length"), "all listed")
        expect(page.locator("#list > li")).to_have_count(3)
        page.close()


def test_while_the_model_is_read_there_is_no_alarm_and_then_the_panel_is_filled(
    data: DataSet, wide: BrowserContext
) -> None:
    feeding, page = Feeding(data), wide.new_page()
    feeding.view.ready = False
    with answering(feeding) as address:
        with page.expect_response("**/v1/explain") as refused:
            page.goto(address)
        assert refused.value.status == 503
        expect(page.locator("#state")).to_have_class("state live")
        expect(page.locator("#slate li")).to_have_count(0)
        feeding.view.ready = True
        expect(page.locator("#slate li")).to_have_count(5)
        expect(page.locator("#arm-note")).to_contain_text("Now ")
        page.close()


def test_a_page_that_can_not_show_what_it_is_told_lets_go_of_the_stream(
    data: DataSet, wide: BrowserContext
) -> None:
    page = wide.new_page()
    with answering(Feeding(data)) as address:
        page.goto(address)
        expect(page.locator("#state-text")).to_have_text("live")
        page.evaluate(UNABLE)
        until(lambda: page.evaluate("window.streams.length") > 2, "tried again")
        assert page.evaluate("window.streams.slice(0, -1).every((each) => each.aborted)")
        page.close()


def awake(page: Page, ms: int) -> None:
    """So much time goes by for the page's own timers."""
    page.clock.run_for(ms)


def test_a_server_that_hangs_is_told_from_a_quiet_one(data: DataSet, wide: BrowserContext) -> None:
    feeding, page = Feeding(data), wide.new_page()
    page.clock.install()
    with answering(feeding) as address:
        page.goto(address)
        said, since = page.locator("#state-text"), page.locator("#state-for")
        expect(said).to_have_text("live")
        page.clock.pause_at("2100-01-01")  # from now on no time goes by but what is given
        with feeding.suspended():
            awake(page, 2_000)
            expect(said).to_have_text("live")
            awake(page, 8_000)
            expect(said).to_have_text("no word from the server")
            expect(since).to_have_text(re.compile(r" for \d+ s, trying again …"))
            expect(page.locator("#state")).to_have_class("state gone")
            awake(page, 120_000)  # several attempts, none of which is answered
            expect(since).to_contain_text("for 2 min")
            page.get_by_role("button", name="Pause").click()
            expect(said).to_have_text("no word from the server")
        page.clock.resume()
        expect(said).to_have_text("paused")
        expect(since).to_be_empty()
        page.get_by_role("button", name="Go on").click()
        expect(said).to_have_text("live")
        feeding.visit(1)
        expect(page.locator("#visits")).to_have_text("1")
        page.close()


def test_a_page_that_slept_raises_no_alarm(data: DataSet, wide: BrowserContext) -> None:
    feeding, page = Feeding(data), wide.new_page()
    page.clock.install()
    with answering(feeding) as address:
        page.goto(address)
        expect(page.locator("#state-text")).to_have_text("live")
        page.evaluate(SAY_WHAT_IS_SAID)
        with feeding.suspended():
            page.clock.fast_forward(3_600_000)  # as in a hidden tab: each timer runs once
        feeding.visit(1)
        expect(page.locator("#visits")).to_have_text("1")
        assert page.evaluate("window.said") == []
        page.close()


def test_a_page_that_waits_for_a_key_misses_no_word(data: DataSet, wide: BrowserContext) -> None:
    page = wide.new_page()
    page.clock.install()
    with answering(Feeding(data), keys=[b"the-right-key"]) as address:
        page.goto(address)
        expect(page.locator("#state-text")).to_have_text("a key is needed")
        awake(page, 30_000)
        expect(page.locator("#state-text")).to_have_text("a key is needed")
        expect(page.locator("#state-for")).to_be_empty()
        page.close()


def test_a_key_that_is_wrong_is_told_from_none(data: DataSet, wide: BrowserContext) -> None:
    page = wide.new_page()
    with answering(Feeding(data), keys=[b"the-right-key"]) as address:
        page.goto(address)
        said, asked = page.locator("#state-text"), page.locator("#key-form")
        expect(said).to_have_text("a key is needed")
        expect(asked).to_contain_text("This server asks for a key")
        for wrong in ("the-wrong-key", "schlüssel", "ключ"):
            page.locator("#key").fill(wrong)
            page.get_by_role("button", name="Show the page").click()
            expect(said).to_have_text("this key is wrong")
            expect(asked).to_contain_text("does not know this key")
        page.locator("#key").fill(" the-right-key ")
        page.get_by_role("button", name="Show the page").click()
        expect(said).to_have_text("live")
        expect(asked).to_be_hidden()
        page.close()


def test_it_can_be_paused(data: DataSet, wide: BrowserContext) -> None:
    feeding = Feeding(data)
    with (
        answering(feeding) as address,
        opened(wide, address) as (page, _, _),
    ):
        expect(page.locator("#visits")).to_have_text("0")
        page.get_by_role("button", name="Pause").click()
        feeding.visit(1, 2)
        feeding.feed.sample()
        with page.expect_response("**/v1/explain"):
            page.locator("#hour").fill("12")
        expect(page.locator("#visits")).to_have_text("0")
        page.get_by_role("button", name="Go on").click()
        feeding.visit(3)
        expect(page.locator("#visits")).to_have_text("3")
