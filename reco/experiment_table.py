"""How the policies of an experiment compare, as people read it."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from reco.experiment_report import ExperimentReport, VariantReport
from reco.terminal import printable


def table(found: ExperimentReport) -> Iterator[Table | Text]:
    """The comparison for people."""
    if not found.variants:
        yield Text("no decision has an outcome yet")
        return
    title = f"experiment {found.experiment}" if found.experiment else "no experiment: by policy"
    shown = Table(title=Text(printable(title), "table.title"), title_justify="left")
    shown.add_column("variant", no_wrap=True)
    for name in ("visits", "clicks", "click rate", "uplift", "difference", "at any time"):
        shown.add_column(name, justify="right", no_wrap=True)
    for variant in found.variants:
        shown.add_row(*map(Text, _cells(variant)))
    yield shown
    control = found.variants[0].variant
    for variant in found.variants[1:]:
        verdict = "differs from" if variant.differs else "can't be told apart from"
        said = f"{variant.variant} {verdict} {control} ({found.confidence:.0%} at any time)"
        yield Text(printable(said))


def _cells(variant: VariantReport) -> list[str]:
    interval = variant.difference_interval
    return [
        printable(variant.variant),
        f"{variant.visits:,}",
        f"{variant.clicks:,}",
        "–" if variant.click_rate is None else f"{variant.click_rate:.3f}",
        "–" if variant.uplift_share is None else f"{variant.uplift_share:.0%}",
        "–" if variant.difference is None else f"{variant.difference:+.3f}",
        "–" if interval is None else f"{interval[0]:+.3f} … {interval[1]:+.3f}",
    ]
