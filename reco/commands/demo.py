"""`reco demo`: watch it learn, with nothing to install."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from producer.history import HistoryError, read_history
from reco import options, output_files
from reco.curves import draw_curves
from reco.data import load_or_prepare
from reco.demo import RUN_ID, Demo, Plan, Progress
from reco.demo_http import HttpDemo
from reco.fleet import ChildFailed
from reco.logs import say
from reco.number import Number
from reco.process import unwind_on_sigterm, utc_now
from reco.verdict import Verdict
from server.scorer import POLICIES, default_alpha
from shared.catalogue import DataSet
from shared.settings import POLICY

MOST_VISITS = 20_000
"""The embedded broker keeps 5 MiB a partition: beyond that the log could not be replayed whole."""


@click.command()
@options.data
@options.seed()
@click.option("--visits", default=2_000, show_default=True, type=click.IntRange(1, MOST_VISITS))
@click.option(
    "--rate",
    default=200.0,
    show_default=True,
    type=Number(min=1),
    help="Visits a second.",
)
@click.option("--policy", default=POLICY, show_default=True, type=click.Choice(POLICIES))
@click.option("--alpha", type=Number(min=0), help="Exploration α. [default: the policy's own]")
@click.option("--cold", is_flag=True, help="Start without the history.")
@click.option(
    "--via-http", is_flag=True, help="Visits and clicks come through the HTTP API, some too late."
)
@click.option("--chaos", is_flag=True, help="Kill processes with SIGKILL while it runs.")
@click.option(
    "--http-port",
    default=0,
    show_default="a free one",
    type=click.IntRange(0, 65_535),
    help="Where the live page is, on 127.0.0.1.",
)
@click.option("--hold", is_flag=True, help="Keep the page after the verdict, until Ctrl-C.")
@output_files.plot(
    "With --cold the run is shown in the terminal beside the prototype's rule on the same visits; "
    "draw both into FILE, with --cold or without"
)
@options.json_output("the verdict")
def command(
    data: Path,
    seed: int,
    visits: int,
    rate: float,
    policy: str,
    alpha: float | None,
    cold: bool,
    via_http: bool,
    chaos: bool,
    http_port: int,
    hold: bool,
    plot: Path | None,
    json_file: str | None,
) -> None:
    """Run producer, server and trainer as processes on an embedded broker and store.

    10,000 events of the past go through the same topics and trainer first (not with --cold);
    then visits come, are ranked, clicked or not, and learned from at once. At the end the log is
    replayed and compared with the store bit for bit. Exit code 0 if the verdict is pass.

    Meanwhile a page shows it live; its address is printed at the start. The processes are told all
    they need: variables for those of another system (RECO_SERVE_*, KAFKA_*, …) don't reach them.

    Example: reco demo --chaos --visits 2000
    """
    unwind_on_sigterm()
    tell = say if json_file == "-" else click.echo
    dataset = load_or_prepare(data)
    if not cold:
        _check_history(data / "history.csv", dataset)
    port = options.free_port(http_port)

    def judged(verdict: Verdict) -> None:
        tell("")
        for line in demo.last_lines:
            tell(line)
        if cold or plot:
            _beside_the_rule(demo, plan, plot, tell)
        show(verdict, tell)
        options.write_json(verdict, json_file)

    with tempfile.TemporaryDirectory(prefix="reco-demo-") as logs:
        alpha = default_alpha(policy) if alpha is None else alpha
        plan = Plan(
            dataset,
            data,
            visits,
            rate,
            seed,
            policy,
            alpha,
            not cold,
            chaos,
            Path(logs),
            port,
            hold,
        )
        kind = HttpDemo if via_http else Demo
        demo = kind(plan, lambda text: tell(f"· {text}"), lambda now: tell(progress_line(now)))
        try:
            verdict = demo.run(judged)
        except ChildFailed as error:
            raise click.ClickException(str(error)) from error
    if verdict.verdict != "pass":
        click.get_current_context().exit(1)


def _check_history(path: Path, data: DataSet) -> None:
    """Read it before anything is started."""
    try:
        for _ in read_history(path, data.encoder.features, data.encoder.id, utc_now()):
            pass
    except HistoryError as error:
        raise click.UsageError(
            f"{error}; `reco prepare` writes one, and with --cold none is needed"
        ) from error


def _beside_the_rule(
    demo: Demo, plan: Plan, plot: Path | None, tell: Callable[[str], None]
) -> None:
    """From a cold start: what was served, and what the prototype's rule would have."""
    # What simulates is not needed at the start, when people wait.
    from reco.head_to_head import RULE_NAME, chart, compared, rule_rates, served_rates

    data = plan.data
    column = {arm: i for i, arm in enumerate(data.arms)}
    served = served_rates(demo.visit_ids, demo.hidden, column, demo.decisions)
    rule = rule_rates(data, plan.visits, plan.seed, RUN_ID)
    curves = compared({plan.policy: served, RULE_NAME: rule})
    if not plan.warm:
        chart(curves, tell)
    if plot:
        draw_curves(plot, curves, f"The same {plan.visits:,} visits", tell)


def progress_line(now: Progress) -> str:
    """Where the run is, in a line of a terminal."""
    fresh = "" if now.freshness_p50_ms is None else f", fresh in {now.freshness_p50_ms:.0f} ms"
    return (
        f"{now.seconds:3.0f} s {now.decided:6,} visits: click rate {now.click_rate:.3f} "
        f"(random {now.random:.3f}, best {now.best:.3f}){fresh}"
    )


def show(verdict: Verdict, tell: Callable[[str], None]) -> None:
    """The result, for people."""
    fresh = verdict.freshness_ms
    tell("")
    tell(f"visits             {verdict.visits:,} ({verdict.outcomes:,} outcomes)")
    tell(f"click rate         {verdict.click_rate:.3f}")
    tell(f"  random slates    {verdict.click_rate_random:.3f}")
    tell(f"  best possible    {verdict.click_rate_best:.3f}")
    tell(f"uplift captured    {verdict.uplift_captured:.0%} of what is possible")
    tell(f"  without the dice {verdict.uplift_captured_expected:.0%}")
    if fresh.p50 is not None:
        tell(f"click → servable   {fresh.p50:.1f} ms (p50), {fresh.p99:.1f} ms (p99)")
    if verdict.kills:
        tell(f"killed             {verdict.kills} processes; decided twice {verdict.decided_twice}")
    if verdict.late:
        tell(f"late clicks        {verdict.late.late:,} of {verdict.late.clicks:,}")
    replay = verdict.replay
    tell(
        f"replay             {replay.differing_bits} differing bits over {replay.outcomes:,} "
        f"outcomes, {replay.arms} arms"
    )
    tell("")
    mark = "✅" if verdict.verdict == "pass" else "❌"
    tell(f"{mark} verdict: {verdict.verdict}{''.join(f'; {why}' for why in verdict.reasons)}")
