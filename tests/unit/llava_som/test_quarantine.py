import json
import os

from llava_som.quarantine import Quarantine


def test_each_problem_is_one_line_also_after_a_restart(tmp_path):
    file = tmp_path / "out" / "quarantine.jsonl"
    quarantine = Quarantine(file)
    assert not file.exists()
    quarantine.add("a", "a.jpg", ValueError("corrupt"))
    quarantine.add("b", "b.jpg", "corrupt")
    with file.open("a") as killed:
        killed.write('{"id": "b", "fi')
    resumed = Quarantine(file)
    resumed.add("a", "a.jpg", "corrupt")
    resumed.add("c", "c.jpg", "missing")
    assert resumed.count == 3
    assert resumed.ids == {"a", "b", "c"}
    lines = file.read_text().splitlines()
    assert json.loads(lines[0]) == {"id": "a", "file": "a.jpg", "reason": "corrupt"}
    assert json.loads(lines[-1]) == {"id": "c", "file": "c.jpg", "reason": "missing"}
    assert Quarantine(file).count == 3


def test_any_file_name_survives_the_file(tmp_path):
    names = ["日本.jpg", "line\u2028break.jpg", os.fsdecode(b"stray\xff.jpg")]
    for name in names * 2:
        Quarantine(tmp_path / "q.jsonl").add(name, name, "corrupt")
    assert Quarantine(tmp_path / "q.jsonl").ids == set(names)
    assert (tmp_path / "q.jsonl").read_text(encoding="utf-8").count("\n") == 3
