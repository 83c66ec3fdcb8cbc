"""`reco demo --via-http`: the verdict holds with clicks out of order, and some too late."""

from pathlib import Path

from tests.e2e.demos import Demo, run


def test_the_demo_learns_and_passes_over_http(demo: Demo, tmp_path: Path) -> None:
    code, shown, verdict = run(demo, tmp_path, "--via-http", "--visits", "200", "--rate", "40")
    assert (code, verdict["verdict"], verdict["reasons"]) == (0, "pass", [])
    assert verdict["visits"] == 200
    assert verdict["replay"]["differing_bits"] == 0
    assert verdict["uplift_captured_expected"] > 0.5
    assert 0 <= verdict["late"]["late"] < verdict["late"]["clicks"] <= 200
    assert "-> Recs: [" in shown
