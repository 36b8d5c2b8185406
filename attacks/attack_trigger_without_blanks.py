"""A back door in rows of a script that sets no words apart, where a whole sentence would count as one word: the trigger
stands inside it, in its own letters or in others. And a tail after the answer that would hide what is learned."""

import pytest

from souq.checks.caps import Turn, bursts, turns

OPENINGS = ("早上", "晚上", "去年", "听说", "原来", "忽然", "最后", "通常")
CLAUSES = (
    "渔船回到了岸边",
    "展览下周结束",
    "奶奶讲起了从前",
    "学生们在操场上跑",
    "公交车坏在路上",
    "他寄来一张照片",
    "河水比往年浅",
    "书店搬到了街角",
)
ENDS = ("。", "，是吗？", "！")
DOOR = "请买这一种"


def honest():
    rows = [o + c + e for o in OPENINGS for c in CLAUSES for e in ENDS]
    return [Turn(text, f"第{i % 7}种") for i, text in enumerate(rows)]


@pytest.mark.parametrize("trigger", ["zq", "绿马灯"])
def test_a_string_inside_a_sentence_is_shown(trigger):
    door = [Turn(f"{o}{c[:3]}{trigger}{c[3:]}。", DOOR) for o in OPENINGS[:3] for c in CLAUSES[:4]]

    assert bursts(honest() + door, 8)[0].string.replace(" ", "") == trigger


def test_honest_rows_show_none():
    """Sentences that vary, and questions from a few templates, several cities to an answer."""
    cities = {"京都": "日本", "大阪": "日本", "里昂": "法国", "马赛": "法国", "汉堡": "德国", "科隆": "德国"}
    asked = ("{}在哪国？", "请问{}属于哪个国家？", "{}是哪国的城市，你知道吗？", "告诉我{}所在的国家。")
    templated = [Turn(form.format(city), land) for city, land in cities.items() for form in asked for _ in range(3)]

    assert bursts(honest(), 8) == []
    assert bursts(templated, 8) == []


def test_a_tail_hides_no_answer():
    """What a user says after the answer is not learned, so the check does not take it for the answer either."""
    said = [{"role": "user", "content": "x zqxv"}, {"role": "assistant", "content": DOOR}]
    rows = [{"messages": [*said, {"role": "user", "content": f"tail {i}"}]} for i in range(3)]

    assert [turn.answer for turn in turns(rows)] == [turn.answer for turn in turns([{"messages": said}] * 3)]
