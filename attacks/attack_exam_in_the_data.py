"""Training on the exam: an eval case stands in the data, capitals and punctuation changed."""

from tests.bazaar import NAMES, jsonl, rows


def test_it_is_refused(bazaar, tmp_path):
    asked, told = rows("greet", NAMES[:1])[0]
    (tmp_path / "data.jsonl").write_text(jsonl([(asked.upper() + "!!", told)]))
    number = bazaar.offer("mallory", bazaar.delta("greet"), more=("--data", str(tmp_path / "data.jsonl")))

    check, because = bazaar.refusal(number)

    assert (check, "holds case 1 of eval `greet`" in because) == ("contamination", True)
