"""`POST /v1/rank` and the click path against an empty handler of the same server, under load.

Server, store, broker and load (`wrk`, 32 connections) are processes of their own; the paths are
measured by turns in one run. The empty handler gets the same requests, through the same uvicorn,
guard and framework, and does nothing with them (`tests.benchmarks.empty_http`). `GET /livez`, which
has no body to read, stands beside it. The model has learned the history.

Connections that ask again as soon as they are answered keep the server busy however fast it is, and
their latency is their number times what a request takes. So latency is measured beside that with
connections that pause.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from producer.prepare import prepare
from server.openapi import EXAMPLES
from tests.benchmarks.empty_http import empty_server
from tests.benchmarks.measure import Result
from tests.e2e.api_process import serving
from tests.e2e.system import EmbeddedSystem

CONNECTIONS: Final = 32
SECONDS: Final = 1
TURNS: Final = 12
"""Short ones, so that what is compared was measured at the same moment of a machine."""
LEAST_SHARE: Final = 0.6
MOST_P99_MS: Final = 5.0
PAUSE_MS: Final = 64
"""On average, from an answer to that connection's next request: 500 requests a second at most."""

_RANK: Final = """
wrk.method, wrk.body = 'POST', [[{body}]]
wrk.headers['Content-Type'] = 'application/json'
"""
# Ranks and clicks by turns: what is clicked is the product that was ranked first.
_CLICK: Final = """
local body = [[{body}]]
local headers = {{['Content-Type'] = 'application/json'}}
local waiting = {{}}
request = function()
    local next = table.remove(waiting)
    if next then
        return wrk.format('POST', '/v1/decisions/' .. next[1] .. '/click', headers,
            '{{"product_id":' .. next[2] .. '}}')
    end
    return wrk.format('POST', '/v1/rank', headers, body)
end
response = function(status, _, answer)
    local decision, product = answer:match('"decision_id":"([^"]+)","slate":%[{{"product_id":(%d+)')
    if product then table.insert(waiting, {{decision, product}}) end
end
"""

_PAUSES: Final = f"""
delay = function() return math.random(0, {2 * PAUSE_MS}) end
"""

_EMPTY: Final = "empty handler, same server"
_COMPARED: Final = (
    ("rank", "POST /v1/rank", "empty", _EMPTY, LEAST_SHARE),
    ("rank", "POST /v1/rank", "livez", "GET /livez, no body", None),
    ("click", "ranks and clicks by turns", "empty", _EMPTY, None),
)


class Load(NamedTuple):
    """What one turn of load came to."""

    per_s: float
    p99_ms: float
    failed: int
    """Answers that are not 2xx, and connections that broke."""


def results() -> Iterator[Result]:
    """Measure everything; a minute and a half. Nothing without `wrk`."""
    if shutil.which("wrk") is None:
        print("HTTP is not measured: install wrk (apt-get install wrk)", file=sys.stderr)
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prepare(folder / "data", 1237)
        served = stack.enter_context(
            serving(
                folder / "data",
                folder,
                most_waiting=2_000_000,
                http_in_flight=1_000,
                reward_window="1h",  # else the ends of earlier turns' windows are measured, too
            )
        )
        learn_history(served.system, folder / "data" / "history.csv")
        body = json.dumps(next(iter(EXAMPLES.values())))
        idle = stack.enter_context(empty_server())
        rank, click = _RANK.format(body=body), _CLICK.format(body=body)
        paths = {
            "empty": (f"{idle}/v1/rank", rank),
            "livez": (f"{served.url}/livez", ""),
            "rank": (f"{served.url}/v1/rank", rank),
            "click": (f"{served.url}/v1/rank", click),
            "empty with pauses": (f"{idle}/v1/rank", rank + _PAUSES),
            "rank with pauses": (f"{served.url}/v1/rank", rank + _PAUSES),
        }
        turns: dict[str, list[Load]] = {name: [] for name in paths}
        for turn in range(TURNS + 1):
            for name, (url, script) in paths.items():
                (folder / "load.lua").write_text(script)
                load = under_load(url, folder / "load.lua")
                if turn > 0:  # the first one warms up
                    turns[name].append(load)
    yield from results_of(turns)


def learn_history(system: EmbeddedSystem, history: Path) -> None:
    """Send it through the topic to the trainer, and wait until all is learned."""
    sender = system.start("history", "produce", history=str(history))
    system.until(lambda: sender.finished, "all of the history sent")
    system.until(system.learned, "all of the history learned")


def results_of(turns: Mapping[str, Sequence[Load]]) -> Iterator[Result]:
    """What the turns of each path come to; each beside the empty handler of the same turn."""
    for name, title, beside, what, target in _COMPARED:
        loads, empty = turns[name], turns[beside]
        share = median(load.per_s / idle.per_s for load, idle in zip(loads, empty, strict=True))
        yield Result(
            name=f"{title}, per request",
            unit="µs",
            ours=1e6 / median(load.per_s for load in loads),
            reference=1e6 / median(load.per_s for load in empty),
            reference_name=what,
            ratio=share,
            target=target,
            met=None if target is None else share >= target,
        )
    asked = {"POST /v1/rank": ("rank", "rank with pauses"), "ranks and clicks by turns": ("click",)}
    for title, names in asked.items():
        failed = sum(load.failed for name in names for load in turns[name])
        yield Result(
            name=f"{title}, not answered 2xx",
            unit="answers",
            ours=failed,
            target=0.0,
            met=failed == 0,
        )
    for kind, how in (("", ""), (" with pauses", f", each pausing {PAUSE_MS} ms")):
        p99_ms = median(load.p99_ms for load in turns[f"rank{kind}"])
        yield Result(
            name=f"POST /v1/rank, p99 at {CONNECTIONS} connections{how}",
            unit="µs",
            ours=p99_ms * 1e3,
            reference=median(load.p99_ms for load in turns[f"empty{kind}"]) * 1e3,
            reference_name=_EMPTY,
            target=MOST_P99_MS * 1e3,
            met=p99_ms < MOST_P99_MS,
        )


def under_load(url: str, script: Path) -> Load:
    """One turn of `wrk`."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", "-s", str(script)]
    said = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    return load_of(said)


def load_of(said: str) -> Load:
    """What `wrk` says it was."""
    rate = re.search(r"Requests/sec: +([\d.]+)", said)
    p99 = re.search(r"99% +([\d.]+)(us|ms|s)", said)
    if not rate or not p99:
        raise RuntimeError(f"wrk says something else: {said}")
    unit_ms = {"us": 1e-3, "ms": 1.0, "s": 1e3}[p99[2]]
    refused = re.findall(r"Non-2xx or 3xx responses: (\d+)", said)
    broken = re.findall(r"(?:connect|read|write|timeout) (\d+)", said)
    failed = sum(int(count) for count in (*refused, *broken))
    return Load(float(rate[1]), float(p99[1]) * unit_ms, failed)
