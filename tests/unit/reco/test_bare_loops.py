import msgspec

from reco.bare_loops import templates
from shared.events import encode
from tests.scenario import outcome


def test_templates_have_as_many_outcomes_as_decisions_have_on_average() -> None:
    firsts = [(b"1", encode(outcome(number, 1))) for number in range(4)]
    seconds = [
        (b"2", encode(msgspec.structs.replace(outcome(number, 2), rank=2))) for number in range(2)
    ]
    made = templates([(b"v", b"d")] * 4, [*firsts, *seconds])
    assert [template.decision for template in made] == [(b"v", b"d")] * 4
    assert [len(template.outcomes) for template in made] == [1, 2, 1, 2]
