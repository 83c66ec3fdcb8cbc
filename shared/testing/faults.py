"""A crash at a chosen step, and a clock that moves when told to."""


class Crash(BaseException):
    """The process dies here: nothing may catch this but the test."""


class CrashPoints:
    """Passed to a service as its `step` hook: counts the steps, and crashes at a chosen one."""

    def __init__(self, crash_at: int | None = None) -> None:
        self.seen: list[str] = []
        self.crash_at = crash_at

    def __call__(self, name: str) -> None:
        self.seen.append(name)
        if len(self.seen) - 1 == self.crash_at:
            raise Crash(name)


class FakeClock:
    """A monotonic clock that moves when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s
