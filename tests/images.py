"""The images of broker and store that tests start: those of docker-compose.yml."""

import os
from typing import Final

REDPANDA_IMAGE: Final = os.environ.get("REDPANDA_IMAGE", "redpandadata/redpanda:v26.2.7")
REDIS_IMAGE: Final = os.environ.get("REDIS_IMAGE", "redis:8.2-alpine")
