from pathlib import Path

from click.testing import CliRunner

from infra.embedded import embedded
from reco.commands.bench import command


def test_the_embedded_broker_is_not_measured(data_folder: Path) -> None:
    with embedded() as addresses:
        options = ["--kafka", addresses.kafka, "--redis", addresses.redis]
        result = CliRunner().invoke(command, ["stream", *options, "--data", str(data_folder)])
    assert result.exit_code == 2
    assert "figures of the embedded broker mean nothing" in result.output
