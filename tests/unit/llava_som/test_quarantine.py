import json

from llava_som.quarantine import Quarantine


def test_each_problem_is_one_line_also_after_a_restart(tmp_path):
    file = tmp_path / "out" / "quarantine.jsonl"
    quarantine = Quarantine(file)
    assert not file.exists()
    quarantine.add("a", "a.jpg", ValueError("corrupt"))
    quarantine.add("b", "b.jpg", "corrupt")
    resumed = Quarantine(file)
    resumed.add("a", "a.jpg", "corrupt")
    resumed.add("c", "c.jpg", "missing")
    assert resumed.count == 3
    assert resumed.ids == {"a", "b", "c"}
    assert resumed.by_reason() == {"corrupt": 2, "missing": 1}
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines[0] == {"id": "a", "file": "a.jpg", "reason": "corrupt"}
    assert len(lines) == 3
