"""How the policies of an experiment compare, as people read it."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from reco.experiment_report import ExperimentReport, VariantReport
from reco.settled import DELETED, EARLY, OPEN
from reco.terminal import printable
from shared.confidence import LEAST_USERS


def table(found: ExperimentReport) -> Iterator[Table | Text]:
    """The comparison for people."""
    if not found.variants:
        yield Text("no decision has an outcome yet that counts")
        yield from _left_out(found)
        return
    title = f"experiment {found.experiment}" if found.experiment else "no experiment: by policy"
    shown = Table(title=Text(printable(title), "table.title"), title_justify="left")
    shown.add_column("variant", no_wrap=True)
    for name in ("visits", "clicks", "click rate", "uplift", "difference", "at any time"):
        shown.add_column(name, justify="right", no_wrap=True)
    for variant in found.variants:
        shown.add_row(*map(Text, _cells(variant)))
    yield shown
    control, *others = found.variants
    if found.experiment is None and others:
        yield Text(
            "Nothing divided the users: these policies may have served others, at another time, "
            "and which is better can't be told. `reco serve --experiment` divides them."
        )
    elif others:
        for variant in others:
            yield Text(printable(_verdict(variant, control, found.confidence)))
    yield from _left_out(found)


def _verdict(variant: VariantReport, control: VariantReport, confidence: float) -> str:
    pair = (variant, control)
    if few := [each.variant for each in pair if not each.enough_users]:
        return (
            f"{variant.variant} and {control.variant}: too few users of {' and of '.join(few)} to "
            f"tell (at least {LEAST_USERS}, more if some come much more often than others)"
        )
    verdict = "differs from" if variant.differs else "can't be told apart from"
    return f"{variant.variant} {verdict} {control.variant} ({confidence:.0%} at any time)"


def _left_out(found: ExperimentReport) -> Iterator[Text]:
    for count, why in (
        (found.open_decisions, OPEN),
        (found.early_decisions, EARLY),
        (found.deleted_decisions, DELETED),
    ):
        if count:
            yield Text(f"left out: {count:,} with {why}")


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
