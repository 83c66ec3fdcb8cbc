"""The reward window in Redis: every transition one script, on one shard, by the store's clock.

    reco:{<model>:w<S>}:decisions   decision_id → what waits, as JSON
    reco:{<model>:w<S>}:states      decision_id → "w <attempt>,… <withdrawn>,…", "x <withdrawn>,…",
                                    "c <rank> <ms> <trace> <sent>", or "z …" likewise
    reco:{<model>:w<S>}:due         waiting decisions by the end of their window
    reco:{<model>:w<S>}:outbox      resolutions to be published, by the end of their lease
    reco:{<model>:w<S>}:kept        resolved and published, by when they are forgotten

The braces keep a shard in one slot of a Redis Cluster, and every key is named to every script.
"""

import itertools
import logging
import secrets
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from string import hexdigits
from typing import Any, Final

import msgspec

from shared import window_scripts
from shared.events import UNDECODABLE
from shared.ports import CorruptState
from shared.redis_scripts import RedisScripts, ScriptCall
from shared.reward_window import (
    CLICKED,
    EXPIRED,
    Answer,
    Attempt,
    Click,
    Clicked,
    Found,
    Load,
    Opening,
    Refused,
    Resolution,
    Waiting,
    WindowRules,
)

SHARDS: Final = 4
"""Fixed: a decision would otherwise be looked for in another shard than it waits in. A power of 2:
`_name_in` reckons in bits."""

_NAMES: Final = ("decisions", "states", "due", "outbox", "kept")
_LAST_MS: Final = 253_402_300_799_000
"""Times end with the year 9999."""
_log = logging.getLogger(__name__)

_REFUSALS: Final = {answer.value.encode(): answer for answer in Refused}


class RedisWindow:
    """`shared.reward_window.RewardWindow` on Redis or Valkey; belongs to one event loop.

    Args:
        url: `redis://` or `rediss://` address.
        model: name in the keys.
        rules: limits.
        timeout_s: how long a call may take before the store counts as unavailable.

    Raises:
        BadAddress: it is not the URL of a Redis server.
    """

    def __init__(self, url: str, model: str, rules: WindowRules, timeout_s: float = 2.0) -> None:
        self.put_aside = 0
        self._rules = rules
        # Bytes here and below: the client takes its time to make them of anything else.
        self._keys = [
            [f"reco:{{{model}:w{shard}}}:{name}".encode() for name in _NAMES]
            for shard in range(SHARDS)
        ]
        # May be sent again: every transition knows what was done already.
        self._scripts = RedisScripts(url, timeout_s)
        self._next_shard = 0
        self._shards = itertools.cycle(range(SHARDS))

    def names(self, count: int) -> list[str]:
        """See `RewardWindow.names`: of one shard, so that a batch is one call; of each in turn."""
        shard, drawn = next(self._shards), secrets.token_hex(16 * count).encode()
        return [_name_in(shard, drawn[i : i + 32]) for i in range(0, 32 * count, 32)]

    async def open(self, openings: Sequence[Opening]) -> list[Waiting | Refused]:
        """See `RewardWindow.open`: one round trip for all of them."""
        # Each shard holds its share of what may wait.
        most_waiting = -(-self._rules.most_waiting // SHARDS)
        numbers = (self._rules.window_ms, most_waiting, self._rules.most_attempts)
        limits = [b"%d" % number for number in numbers]
        lines: dict[tuple[int, str], list[bytes]] = defaultdict(list)
        places: dict[tuple[int, str], list[int]] = defaultdict(list)
        for place, (waiting, attempt) in enumerate(openings):
            decision_id = waiting.decision.decision_id
            call = (shard_of(decision_id), attempt)
            lines[call].append(b"%b %b\n" % (decision_id.encode(), _encode(waiting)))
            places[call].append(place)
        answers: list[Waiting | Refused] = [opening.waiting for opening in openings]
        calls = [
            (at, [*limits, attempt.encode(), b"".join(lines[at, attempt])]) for at, attempt in lines
        ]
        replies = await self._run(window_scripts.OPEN, calls)
        for call, reply in zip(lines, replies, strict=True):
            for place, answer in zip(reply[::2], reply[1::2], strict=True):
                at = places[call][place]
                answers[at] = _opened(openings[at].waiting.decision.decision_id, answer)
        return answers

    async def withdraw(self, attempts: Sequence[Attempt]) -> None:
        """See `RewardWindow.withdraw`."""
        limits = (self._rules.keep_ms, self._rules.most_attempts)
        arguments: dict[int, list[Any]] = defaultdict(lambda: [*limits])
        for each in attempts:
            arguments[shard_of(each.decision_id)] += each
        await self._run(window_scripts.WITHDRAW, list(arguments.items()))

    async def click(self, clicks: Sequence[Click]) -> list[Clicked]:
        """See `RewardWindow.click`: one round trip for all of them."""
        lease_ms = self._rules.lease_ms
        replies = await self._run(
            window_scripts.CLICK,
            [
                (shard_of(decision_id), [lease_ms, decision_id, product_id, trace])
                for decision_id, product_id, trace in clicks
            ],
        )
        return [_clicked(each, reply) for each, reply in zip(clicks, replies, strict=True)]

    async def find(self, decision_id: str) -> Found | None:
        """See `RewardWindow.find`."""
        [reply] = await self._run(window_scripts.FIND, [(shard_of(decision_id), [decision_id])])
        if not reply:
            return None
        stored, state, due = [*reply, None][:3]
        return Found(
            _waiting(stored), None if due is None else int(float(due)), _resolution(stored, state)
        )

    async def take(self, limit: int) -> list[Resolution]:
        """See `RewardWindow.take`: of one shard after the other, a call each."""
        most_kept = -(-self._rules.most_kept // SHARDS)
        taken: list[Resolution] = []
        for _ in range(SHARDS):
            if len(taken) == limit:
                break
            shard, self._next_shard = self._next_shard, (self._next_shard + 1) % SHARDS
            arguments = [self._rules.lease_ms, limit - len(taken), most_kept]
            [reply] = await self._run(window_scripts.TAKE, [(shard, arguments)])
            corrupt: dict[str, CorruptState] = {}
            for decision_id, stored, state in zip(
                reply[::3], reply[1::3], reply[2::3], strict=True
            ):
                try:
                    taken.append(_resolved(stored, state))
                except CorruptState as error:
                    corrupt[decision_id.decode()] = error
            if corrupt:
                await self._put_aside(shard, corrupt)
        return taken

    async def acknowledge(self, decision_ids: Sequence[str]) -> list[str]:
        """See `RewardWindow.acknowledge`."""
        arguments: dict[int, list[Any]] = defaultdict(lambda: [self._rules.keep_ms])
        for decision_id in decision_ids:
            arguments[shard_of(decision_id)].append(decision_id)
        replies = await self._run(window_scripts.ACKNOWLEDGE, list(arguments.items()))
        return [decision_id.decode() for reply in replies for decision_id in reply]

    async def load(self) -> Load:
        """See `RewardWindow.load`."""
        sizes: list[int] = await self._scripts.execute(
            [("ZCARD", keys[name]) for name in range(2, len(_NAMES)) for keys in self._keys]
        )
        return Load(*(sum(sizes[i : i + SHARDS]) for i in range(0, len(sizes), SHARDS)))

    async def close(self) -> None:
        """Close the connections."""
        await self._scripts.close()

    async def _put_aside(self, shard: int, corrupt: Mapping[str, CorruptState]) -> None:
        """Out of the outbox, where they would be met for ever; forgotten as what is published."""
        await self._run(window_scripts.PUT_ASIDE, [(shard, [self._rules.keep_ms, *corrupt])])
        self.put_aside += len(corrupt)
        for decision_id, error in corrupt.items():
            _log.error("decision %s is put aside, nothing is learned of it: %s", decision_id, error)

    async def _run(self, script: str, calls: Sequence[tuple[int, list[Any]]]) -> list[Any]:
        """One script with the arguments of each call, on its shard: one round trip."""
        return await self._scripts.run(
            script, [ScriptCall(self._keys[shard], arguments) for shard, arguments in calls]
        )


def shard_of(decision_id: str) -> int:
    """Where a decision waits, for every replica."""
    return zlib.crc32(decision_id.encode()) % SHARDS


def _name_in(shard: int, start: bytes) -> str:
    """A name that begins like this and waits in this shard."""
    return start.decode() + _LAST[shard ^ zlib.crc32(start + b"0") % SHARDS]


def _last_of(difference: int) -> str:
    """The digit that moves a name by so much, in the place of a 0 in its end.

    A CRC is linear: by what two ends of the same length set it apart depends on them alone.
    """
    zero = zlib.crc32(b"0") % SHARDS
    return next(d for d in hexdigits if zlib.crc32(d.encode()) % SHARDS ^ zero == difference)


_LAST: Final = tuple(_last_of(difference) for difference in range(SHARDS))
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Waiting).decode


def _clicked(click: Click, reply: Sequence[bytes]) -> Clicked:
    """What the script says. A decision that can't be read spoils no other click of the batch."""
    answer = Answer(reply[0].decode())
    try:
        resolution = _resolution(*reply[1:]) if reply[1:] else None
        if answer is Answer.UNREADABLE:
            raise CorruptState(f"its state is {reply[2]!r}, and no window ends")
    except CorruptState as error:
        _log.error("a click on decision %s comes to nothing: %s", click.decision_id, error)
        return Clicked(Answer.UNREADABLE)
    return Clicked(answer, resolution)


def _opened(decision_id: str, answer: bytes) -> Waiting | Refused:
    """What the script says of one that does not simply wait; likewise."""
    refused = _REFUSALS.get(answer)
    try:
        if refused is Refused.UNREADABLE:
            raise CorruptState("it is no JSON of a decision, or missing")
        return refused or _waiting(answer)
    except CorruptState as error:
        _log.error("a retry of decision %s has no answer: %s", decision_id, error)
        return Refused.UNREADABLE


def _waiting(stored: bytes) -> Waiting:
    try:
        return _decode(stored)
    except UNDECODABLE as error:
        raise CorruptState(f"a waiting decision is unreadable: {error}") from error


def _resolved(stored: bytes | None, state: bytes | None) -> Resolution:
    """What the outbox holds; all that is done with it will succeed."""
    resolution = _resolution(stored, state)
    if resolution is None:
        raise CorruptState(f"it is in the outbox, and {state!r}")
    return resolution


def _resolution(stored: bytes | None, state: bytes | None) -> Resolution | None:
    if stored is None or state is None:
        raise CorruptState("a decision or its state is missing")
    try:
        kind, *rest = state.decode().split(" ")
        if kind not in (CLICKED, EXPIRED):
            return None
        # A state of before there were traces has none.
        clicked_rank, ms, *trace, acknowledged = rest
        rank, resolved_ms = int(clicked_rank), int(ms)
    except ValueError as error:
        raise CorruptState(f"the state of a decision is unreadable: {error}") from error
    waiting = _waiting(stored)
    if not (0 <= rank <= len(waiting.decision.slate) and 0 <= resolved_ms <= _LAST_MS):
        raise CorruptState(f"the state of a decision is none of its: {state!r}")
    return Resolution(waiting, rank or None, resolved_ms, acknowledged == "1", "".join(trace))
