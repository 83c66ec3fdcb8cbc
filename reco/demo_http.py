"""The demo over HTTP: shoppers ask, think and click, out of order, and some of them too late."""

from typing import Any, Final

from infra.free_ports import free_port
from reco.demo import Demo
from reco.verdict import Late
from reco.whole_topic import read_topic
from shared.events import DECISIONS, decode_decision
from shared.kafka import KafkaCluster

WINDOW_S: Final = 5
LATE_S: Final = 6
LATE_SHARE: Final = 0.02
THINK_S: Final = 0.3


class HttpDemo(Demo):
    """Visits come through the API, and outcomes through the reward window."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._ports: dict[int, int] = {}
        self._shopped: dict[str, Any] | None = None
        """What the producer has counted, at its end."""

    def _serve_options(self, number: int) -> dict[str, Any]:
        # Fixed beforehand, so that it is the same after a restart.
        self._ports[number] = self._plan.http_port if number == 1 else free_port()
        return {"http": f"127.0.0.1:{self._ports[number]}", "reward_window": f"{WINDOW_S}s"}

    def _produce_options(self) -> dict[str, Any]:
        urls = ",".join(f"http://127.0.0.1:{port}" for port in self._ports.values())
        late = {"late_share": LATE_SHARE, "late_after": f"{LATE_S}s"}
        return {"via": urls, "think": f"{THINK_S}s", **late}

    def _take(self, line: dict[str, Any]) -> None:
        super()._take(line)
        if "late" in line:
            self._shopped = line

    def _late(self) -> Late | None:
        # Who was killed asks all over again, and clicks what has been shown long ago.
        if self._shopped is None or self._children["producer"].starts > 1:
            return None
        late, counted = self._shopped["late"], self._shopped["clicks"]
        return Late(late, late + counted, LATE_SHARE)

    def _resolved(self, cluster: KafkaCluster) -> None:
        sent = set(self.visit_ids)

        def all_are() -> bool:
            records = read_topic(cluster, DECISIONS)
            return sent <= {decode_decision(record.value or b"").visit_id for record in records}

        self._await(all_are, "the reward windows of some visits do not end")
