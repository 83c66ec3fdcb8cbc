"""Timing by turns: what is compared is run alternately, so that noise hits both sides alike."""

import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

_TURN_S: Final = 0.02
_TURNS: Final = 15


class Work(NamedTuple):
    """Something to time."""

    run: Callable[[], object]
    units: int = 1
    """How many of what is counted one run does."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    name: str
    unit: str
    ours: float
    reference: float | None = None
    reference_name: str = ""
    ratio: float | None = None
    """How many times quicker than the reference; below 1 is slower."""
    target: float | None = None
    """Least ratio where there is one, else most of `ours`."""
    met: bool | None = None


def best_us(work: Mapping[str, Work]) -> dict[str, float]:
    """Microseconds a unit of each: the best of several turns, taken alternately."""
    loops = {name: _calibrated(item) for name, item in work.items()}
    best = dict.fromkeys(work, float("inf"))
    for _ in range(_TURNS):
        for name, item in work.items():
            elapsed_s = _timed(item.run, loops[name])
            best[name] = min(best[name], elapsed_s / (loops[name] * item.units) * 1e6)
    return best


def compared(
    name: str,
    ours: Work,
    reference_name: str,
    reference: Work,
    *,
    unit: str = "µs",
    target: float | None = None,
) -> Result:
    """Time ours against a reference; `target` is the least ratio."""
    best = best_us({"ours": ours, "reference": reference})
    ratio = best["reference"] / best["ours"]
    return Result(
        name=name,
        unit=unit,
        ours=best["ours"],
        reference=best["reference"],
        reference_name=reference_name,
        ratio=ratio,
        target=target,
        met=None if target is None else ratio >= target,
    )


def timed(name: str, run: Callable[[], object], *, at_most_us: float | None = None) -> Result:
    """Time something that nothing is compared with; the target is the most microseconds."""
    ours = best_us({"ours": Work(run)})["ours"]
    met = None if at_most_us is None else ours <= at_most_us
    return Result(name=name, unit="µs", ours=ours, target=at_most_us, met=met)


def weighed(name: str, size: float, *, target: float) -> Result:
    """Bytes an arm; `target` is the most."""
    return Result(name=name, unit="bytes an arm", ours=size, target=target, met=size <= target)


def _calibrated(work: Work) -> int:
    work.run()
    elapsed_s = _timed(work.run, 1)
    return max(1, int(_TURN_S / elapsed_s))


def _timed(run: Callable[[], object], loops: int) -> float:
    started_s = time.perf_counter()
    for _ in range(loops):
        run()
    return time.perf_counter() - started_s
