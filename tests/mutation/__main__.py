"""Remove one protection at a time: the tests must fail, or they would not notice its loss.

Example: python -m tests.mutation
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("producer", "trainer", "server", "shared", "infra", "reco", "tests", "pyproject.toml")


class Mutant(NamedTuple):
    """A protection, the text that makes it, what stands there without it, and who must notice."""

    protection: str
    file: str
    text: str
    without: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "compare-and-set in the store's script",
        "shared/redis_store.py",
        "if (current[i] or '') ~= ARGV[i] then return current end",
        "",
        ("tests/contract/test_store.py",),
    ),
    Mutant(
        "compare-and-set, as the trainer meets it",
        "shared/testing/store.py",
        "if not self._matches(current, expected):",
        "if False:",
        ("tests/unit/trainer/test_loop.py", "tests/chaos"),
    ),
    Mutant(
        "records beside an error come first",
        "shared/kafka_consumer.py",
        "if not records:",
        "if True:",
        ("tests/unit/shared/test_kafka_consumer.py",),
    ),
    Mutant(
        "what was taken and not returned is read again",
        "shared/kafka_consumer.py",
        "if self._assignments != assignments:",
        "if False:",
        ("tests/unit/shared/test_kafka_consumer.py",),
    ),
    Mutant(
        "JSON nested too deeply is a dead letter",
        "shared/events.py",
        "UnicodeDecodeError, RecursionError)",
        "UnicodeDecodeError)",
        ("tests/unit/trainer/test_apply.py",),
    ),
    Mutant(
        "dedupe window",
        "trainer/apply.py",
        "if before is not None and offset - before <= width:",
        "if False:",
        ("tests/unit/trainer/test_apply.py",),
    ),
    Mutant(
        "dedupe window read back after a restart",
        "trainer/apply.py",
        "self.read_offset = max(0, next_offset - rules.dedupe_window)",
        "self.read_offset = next_offset",
        ("tests/unit/trainer",),
    ),
    Mutant(
        "dead letter acknowledged before the offset moves",
        "trainer/loop.py",
        "self._producer.flush(FLUSH_TIMEOUT_S)",
        "pass",
        ("tests/unit/trainer/test_loop.py",),
    ),
    Mutant(
        "a conflict given heed to, among the writes of a round",
        "trainer/loop.py",
        "if conflict and not (current and current.writer == position.writer):",
        "if False:",
        ("tests/unit/trainer/test_loop.py",),
    ),
    Mutant(
        "a partition that can't be judged yet holds up no other",
        "trainer/folds.py",
        "unjudged[partition] = error",
        "raise",
        ("tests/unit/reco/test_product_changes.py",),
    ),
    Mutant(
        "a state that changes while a trainer reads it is read again",
        "trainer/starting_state.py",
        "if self._store.positions([partition]) != [position]:",
        "if False:",
        ("tests/unit/trainer/test_starting_state.py",),
    ),
    Mutant(
        "asking the group after a commit without an answer",
        "server/delivery.py",
        "return dict.fromkeys(next_offsets)",
        "return dict(next_offsets)",
        ("tests/unit/server/test_stream_delivery.py",),
    ),
    Mutant(
        "what this process has stored as the floor of what the group says",
        "server/stream.py",
        "until.update({p: max(offset, until.get(p, 0)) for p, offset in done.items()})",
        "pass",
        ("tests/unit/server/test_stream_delivery.py",),
    ),
    Mutant(
        "a floor that is of one log",
        "server/stream.py",
        "if self._log and not self._log.is_same_log(log):",
        "if False:",
        ("tests/unit/server/test_stream_delivery.py",),
    ),
    Mutant(
        "a floor that does not sink where visits come again in parts",
        "server/stream.py",
        "max(offset, until.get(p, 0))",
        "offset",
        ("tests/unit/server/test_stream_delivery.py",),
    ),
    Mutant(
        "a client that waits to store offsets is used no more",
        "shared/kafka_transactions.py",
        "self._client, self._open = None, False",
        "pass",
        ("tests/unit/shared/test_kafka_transactions.py",),
    ),
    Mutant(
        "a failed transaction's records dropped",
        "server/delivery.py",
        "self._producer.abort()",
        "pass",
        ("tests/unit/server/test_delivery.py",),
    ),
    Mutant(
        "gap check of the view",
        "server/partition_view.py",
        "if not same or change.from_offset != self.next_offset:",
        "if not same:",
        ("tests/unit/server",),
    ),
    Mutant(
        "gap check of the view, under any interleaving",
        "server/partition_view.py",
        "if not same or change.from_offset != self.next_offset:",
        "if not same:",
        ("tests/chaos",),
    ),
    Mutant(
        "no connection begins while a server closes",
        "server/http.py",
        "let_no_more_in(self._socket, self._deadlines.stop_s)",
        "pass",
        ("tests/unit/server/test_http.py",),
    ),
    Mutant(
        "who has connected may still ask",
        "server/guarded_protocol.py",
        "if self.cycle or self._silent:",
        "if True:",
        ("tests/unit/server/test_http.py",),
    ),
    Mutant(
        "who does not read is hung up on",
        "server/guarded_protocol.py",
        "self._unread = self.loop.call_later(self.answer_s, self._not_read)",
        "pass",
        ("tests/unit/server/test_guarded_protocol.py",),
    ),
    Mutant(
        "what was closed ends though nobody reads it",
        "server/guarded_protocol.py",
        "if closed:",
        "if False:",
        ("tests/unit/server/test_guarded_protocol.py",),
    ),
    Mutant(
        "what is above on a slate is known",
        "server/kinship.py",
        "left *= _narrowing(kin, best, own / alpha)",
        "pass",
        ("tests/unit/server/test_kinship.py",),
    ),
    Mutant(
        "a click's trace is kept with what it resolves",
        "shared/window_scripts.py",
        "ms(now) .. ' ' .. ARGV[4] .. ' 0'",
        "ms(now) .. '  0'",
        ("tests/contract/test_window.py",),
    ),
    Mutant(
        "withdrawing what nobody saw for as long as it takes",
        "server/withdrawals.py",
        "await asyncio.sleep(EVERY_S)",
        "return",
        ("tests/unit/server/test_api_clicks.py",),
    ),
    Mutant(
        "nothing opened that could not be withdrawn",
        "server/rank_service.py",
        "if self._withdrawals.full:",
        "if False:",
        ("tests/unit/server/test_api_clicks.py",),
    ),
    Mutant(
        "withdrawing what came too late for its client",
        "server/rank_service.py",
        "if any(over):",
        "if False:",
        ("tests/unit/server/test_rank_service.py",),
    ),
    Mutant(
        "every attempt that was withdrawn is remembered",
        "shared/window_scripts.py",
        "then gone = with(gone, attempt) end",
        "then gone = attempt end",
        ("tests/contract/test_window.py",),
    ),
    Mutant(
        "every attempt that was withdrawn is remembered, under any interleaving",
        "shared/window_model.py",
        "entry.gone.append(attempt)",
        "entry.gone[:] = [attempt]",
        ("tests/chaos",),
    ),
    Mutant(
        "trailers counted",
        "server/guarded_protocol.py",
        "if self._bytes > MOST_HEADER_BYTES:",
        "if False:",
        ("tests/unit/server/test_guarded_protocol.py",),
    ),
    Mutant(
        "a product's offset is of one log only",
        "shared/live_catalogue.py",
        "return self.from_offset if self.log.is_same_log(log) else 0",
        "return self.from_offset",
        ("tests/unit/reco/test_product_changes.py",),
    ),
)


def main() -> int:
    """Try every mutant on a copy of the tree, two at a time; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="reco-mutation-") as folder:
        trees = Path(folder)
        everything = {test for mutant in MUTANTS for test in mutant.tests}
        if not passes(copied(trees / "whole"), sorted(everything), "-n", "2"):
            print("the tests fail without any mutation")
            return 1
        print("✓ the tests pass as long as nothing is removed", flush=True)
        with ThreadPoolExecutor(2) as two:
            results = two.map(
                tried, (trees / str(number) for number in range(len(MUTANTS))), MUTANTS
            )
            return max(results)


def copied(tree: Path) -> Path:
    """A copy of the project."""
    tree.mkdir()
    for name in COPIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tree / name)
    return tree


def tried(tree: Path, mutant: Mutant) -> int:
    """0 if the tests notice that this protection is gone."""
    path = copied(tree) / mutant.file
    original = path.read_text(encoding="utf-8")
    if original.count(mutant.text) != 1:
        print(f"✗ {mutant.protection}: its text stands {original.count(mutant.text)} times")
        return 1
    path.write_text(original.replace(mutant.text, mutant.without), encoding="utf-8")
    survived = passes(tree, mutant.tests)
    shutil.rmtree(tree)
    print(
        f"{'✗ nobody noticed' if survived else '✓ noticed'}: without {mutant.protection}",
        flush=True,
    )
    return int(survived)


def passes(tree: Path, tests: Iterable[str], *options: str) -> bool:
    """Whether these tests pass on this tree."""
    # The tree comes first on the path, before the installed project.
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *options]
    command += ["--hypothesis-profile=unshrunk", *tests]
    # Compiled modules are told apart by second and length: those of a mutant are not to be kept.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest did not run: {done.stdout}{done.stderr}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
