"""What a trainer counts, for metrics and its last line."""

from dataclasses import dataclass, field


@dataclass
class Counts:
    """What the loop has done since its start."""

    applied: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    writes: int = 0
    conflicts: int = 0
    reloads: int = 0
    waiting: dict[int, str] = field(default_factory=dict)
    """Partitions that are ours but not served, and why."""
