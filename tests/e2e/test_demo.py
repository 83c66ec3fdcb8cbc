"""`reco demo` as a new user runs it."""

import os
import signal
import subprocess
from collections.abc import Collection
from pathlib import Path

import httpx
import msgspec
import pytest

from reco.verdict import JUDGED_FROM
from tests.e2e.demos import DEADLINE_S, Demo, run
from tests.waiting import until


def test_the_demo_learns_and_passes(demo: Demo, tmp_path: Path) -> None:
    code, shown, verdict = run(demo, tmp_path, "--visits", "300", "--rate", "100")
    assert code == 0
    assert verdict["verdict"] == "pass"
    assert verdict["reasons"] == []
    assert verdict["visits"] == 300
    assert verdict["kills"] == 0
    assert verdict["replay"]["differing_bits"] == 0
    assert verdict["replay"]["outcomes"] == 10_000 + verdict["outcomes"]
    assert verdict["replay"]["arms"] == 200
    assert 0 < verdict["freshness_ms"]["p50"] <= verdict["freshness_ms"]["p99"]
    rates = [verdict[f"click_rate{name}"] for name in ("_random", "", "_best")]
    assert verdict["uplift_captured"] == pytest.approx(
        (rates[1] - rates[0]) / (rates[2] - rates[0])
    )
    assert verdict["uplift_captured_expected"] > 0.8
    assert "embedded" in verdict["broker"]
    assert verdict["store"].startswith(("Redis", "Valkey"))
    assert "-> Recs: [" in shown
    assert "0 differing bits" in shown
    assert "verdict: pass" in shown


def test_the_demo_does_not_hear_what_is_said_to_another_system(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECO_GAMMA", "0.9")
    monkeypatch.setenv("RECO_SERVE_STREAM", "false")
    monkeypatch.setenv("RECO_VIA", "http://127.0.0.1:1")
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SSL")
    code, _, verdict = run(demo, tmp_path, "--visits", "20")
    assert (code, verdict["verdict"], verdict["visits"]) == (0, "pass", 20)


def test_the_demo_passes_though_processes_are_killed(demo: Demo, tmp_path: Path) -> None:
    plot = tmp_path / "curves.png"
    arguments = ("--cold", "--chaos", "--visits", "400", "--policy", "shared-linucb")
    code, shown, verdict = run(demo, tmp_path, *arguments, "--plot", str(plot))
    assert (code, verdict["verdict"]) == (0, "pass")
    assert "share of the possible uplift" in shown
    assert "the prototype's rule" in shown
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert verdict["kills"] >= 5
    assert verdict["visits"] == 400
    assert verdict["replay"]["differing_bits"] == 0
    assert shown.count("kill -9") == verdict["kills"]


def test_the_page_is_there_from_the_start_and_stays_with_hold(demo: Demo) -> None:
    # So few that a slow machine, which learns little in their time, is not judged by their clicks.
    visits = JUDGED_FROM // 2
    process = demo("--cold", "--visits", str(visits), "--rate", "50", "--hold")
    address = line_with(process, "page: ").rpartition("page: ")[2].strip()
    until(lambda: "<title>LiveReco" in page(address), "a page that answers")
    line_with(process, "verdict: pass")
    line_with(process, "Ctrl-C ends it")
    seen = visits_seen(address)
    until(lambda: visits_seen(address) > max(seen, visits), "more visits after the verdict")
    children = descendants(process.pid)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, errors) == (0, "")
    until(lambda: not alive(children), "all children ended")


def page(address: str) -> str:
    """What is there to read; nothing while the server starts."""
    try:
        return httpx.get(address, timeout=DEADLINE_S).raise_for_status().text
    except httpx.HTTPError:
        return ""


def visits_seen(address: str) -> int:
    """What the page's stream says at once."""
    with httpx.stream("GET", f"{address}/v1/live", timeout=DEADLINE_S) as answer:
        first = next(line for line in answer.iter_lines() if line.startswith("data: "))
    return int(msgspec.json.decode(first.removeprefix("data: "))["rates"]["visits"])


def line_with(process: "subprocess.Popen[str]", text: str) -> str:
    """The demo's next line that says so."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"the demo never said {text!r}")


def started(process: "subprocess.Popen[str]") -> dict[int, str]:
    """The demo's descendants, once visits flow."""
    line_with(process, "visits: click rate")
    return descendants(process.pid)


def descendants(pid: int) -> dict[int, str]:
    """Processes below this one, and what they run."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
    found = {pid}
    for _ in rows:
        found |= {int(own) for own, parent, *_ in rows if int(parent) in found}
    return {int(own): " ".join(command) for own, _, *command in rows if int(own) in found - {pid}}


def alive(pids: Collection[int]) -> set[int]:
    """Those of them that still run."""
    listed = subprocess.run(["ps", "-eo", "pid=,stat="], capture_output=True, text=True, check=True)
    rows = (line.split() for line in listed.stdout.splitlines())
    return {*pids} & {int(pid) for pid, state in rows if not state.startswith("Z")}


def test_a_demo_that_loses_its_broker_says_so_and_ends(demo: Demo) -> None:
    process = demo("--cold", "--visits", "5000")
    children = started(process)
    [owner] = [pid for pid, command in children.items() if " -m reco embedded " in command]
    os.kill(owner, signal.SIGKILL)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "broker and store have ended" in errors
    until(lambda: not alive(children), "all children ended")


@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_demo_that_is_ended_early_leaves_nothing_behind(
    demo: Demo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: signal.Signals,
    code: int,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = demo("--cold", "--visits", "5000")
    children = started(process)
    assert len(children) >= 4
    os.kill(process.pid, how)
    _, errors = process.communicate(timeout=DEADLINE_S)
    until(lambda: not alive(children), "all children ended")
    assert process.returncode == code
    assert "Traceback" not in errors
    if how != signal.SIGKILL:  # which leaves nobody to remove its folder of logs
        assert list(tmp_path.iterdir()) == []
