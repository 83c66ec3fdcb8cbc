"""What others wrote is shown on a terminal, and does nothing to it."""

from pathlib import Path

import pytest
from rich.console import Console

from infra.embedded import Addresses
from reco.experiment_report import report
from reco.experiment_table import table
from reco.terminal import printable, printable_lines
from shared.events import PRODUCTS, ProductChange, encode, key_of
from shared.kafka import KafkaCluster
from tests.scenario import NOON
from tests.unit.reco.command_line import Reco
from tests.unit.reco.test_experiment_report import decision, outcome

EVIL = "\x1b]0;mine\x07[red]Brew\u202e"
SHOWN = "\\x1b]0;mine\\x07[red]Brew\\u202e"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Café\u00a0Noir 192 ✅", "Café\u00a0Noir 192 ✅"),
        (EVIL, SHOWN),
        ("\x9b31m\x7f\r\n\t\u2028", "\\x9b31m\\x7f\\r\\n\\t\\u2028"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_would_steer_a_terminal_is_escaped_and_all_else_stays(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_lines_stay_lines() -> None:
    assert printable_lines("one\n\x1btwo\n") == "one\n\\x1btwo\n"


@pytest.fixture
def evil(addresses: Addresses) -> None:
    """A product whose name nobody has checked."""
    change = ProductChange(
        product_id=201,
        name=EVIL,
        category=EVIL,
        price=5.0,
        is_coffee=False,
        features={},
        retired=False,
        from_offset=0,
        changed_at=NOON,
    )
    producer = KafkaCluster(addresses.kafka, patience_s=10.0).producer()
    producer.send(PRODUCTS, key_of(201), encode(change))
    producer.flush(10.0)
    producer.close()


@pytest.mark.usefixtures("here", "evil")
@pytest.mark.parametrize(
    "line",
    [
        "products list --changed",
        "topics watch products --from-beginning --max 1",
        "products retire 201",
    ],
)
def test_a_products_name_steers_no_terminal(
    reco: Reco, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = reco(*line.split())
    assert result.code == 0
    assert printable_lines(result.out) == result.out
    assert SHOWN in result.out


@pytest.mark.usefixtures("here")
def test_an_arms_name_steers_no_terminal(reco: Reco, data_folder: Path, tmp_path: Path) -> None:
    for file in data_folder.iterdir():
        text = file.read_text()
        if file.name == "products.csv":
            header, first, *rest = text.splitlines(keepends=True)
            number, _, _, *others = first.split(",")
            text = "".join((header, ",".join((number, EVIL, "Drinks", *others)), *rest))
        (tmp_path / file.name).write_text(text)
    result = reco("inspect", "arm", "1", "--data", tmp_path)
    assert result.code == 0
    assert f"1 {SHOWN} (partition" in result.out


def test_names_of_an_experiment_and_its_variants_steer_no_terminal() -> None:
    numbers = range(200)
    decisions = [decision(n, f"{EVIL}{n % 2}", EVIL) for n in numbers]
    found = report(decisions, [outcome(n, float(n % 3 == 0)) for n in numbers])
    console = Console(width=200)
    with console.capture() as capture:
        for line in table(found):
            console.print(line)
    shown = capture.get()
    assert printable_lines(shown) == shown
    assert f"experiment {SHOWN}" in shown
    assert f"│ {SHOWN}1 " in shown
    assert f"{SHOWN}1 can't be told apart from {SHOWN}0" in shown
