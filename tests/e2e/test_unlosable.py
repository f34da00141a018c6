"""Runs that are killed, run out of disk or of server, and go on: no record lost, none twice, the same bytes.

LLAVA_SOM_SOAK=1 (`make soak`) runs the full sizes; `make test` a short form of each.
"""

import base64
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from data_gen.pipeline import generate
from tests.e2e.faulty_proxy import FaultyProxy, completion, some_faults
from tests.unit.data_gen.inputs import lines, tree

SOAK = bool(os.environ.get("LLAVA_SOM_SOAK"))
IMAGES, KILLS = (500, 20) if SOAK else (60, 3)
OPTIONS = {
    "source": "scenes",
    "count": IMAGES,
    "size": 160,
    "recipe": ["listing", "qa"],
    "untagged": True,
    "formats": ["parquet", "webdataset"],
    "workers": 2,
}

pytestmark = pytest.mark.e2e


def start(out, **options):
    words = [f"{key}={json.dumps(value)}" for key, value in {**OPTIONS, **options}.items()]
    command = [sys.executable, "-m", "data_gen", *words, f"out={out}"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def finished(out):
    journal = out / "records.jsonl"
    return max(journal.read_bytes().count(b"\n") - 1, 0) if journal.exists() else 0


@pytest.mark.timeout(3000)
def test_kill_9_at_random_points_then_resume(tmp_path):
    rng, out = random.Random(0), tmp_path / "killed" / "out"
    kills = 0
    while kills < KILLS:
        process, goal = start(out), IMAGES * (kills + 1) // (KILLS + 2)
        while process.poll() is None and finished(out) < goal:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))  # into the middle of something
        if process.poll() is not None:
            break  # it was faster than the clock that wanted to kill it
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        kills += 1
        if kills == 1:
            with (out / "records.jsonl").open("ab") as journal:
                journal.write(b'{"id": "scene-000059", "sam')  # a kill in the middle of a line leaves this
    assert kills >= KILLS - 1
    assert start(out).wait() == 0

    whole = tmp_path / "whole" / "out"
    assert generate({**OPTIONS, "workers": 1, "out": whole})["images"] == IMAGES
    ids = [entry["id"] for entry in lines(out / "records.jsonl")[1:]]
    assert ids == [f"scene-{k:06d}" for k in range(IMAGES)]
    assert tree(out) == tree(whole)
    assert not [file for file in out.rglob(".*") if file.is_file()]


def live_processes(group):
    """Command lines of the processes of a group; one that is ending has none any more."""
    listed = subprocess.run(["ps", "-eo", "pgid,args"], capture_output=True, text=True, check=True).stdout
    found = (line.split(maxsplit=1) for line in listed.splitlines())
    return [command for number, command in found if number == str(group) and not command.startswith("[")]


def test_ctrl_c_and_sigterm_stop_in_order_and_a_second_run_is_refused(tmp_path):
    """A terminal sends Ctrl-C to all processes of the run, a batch system SIGTERM."""
    out, options = tmp_path / "stopped" / "out", {"count": 5 * IMAGES, "formats": []}
    for number in (signal.SIGINT, signal.SIGTERM):
        process, before = start(out, **options), finished(out)
        while process.poll() is None and finished(out) <= before:
            time.sleep(0.01)
        second = start(out, **options)
        assert "being written by another run" in second.communicate()[0] and second.returncode == 2
        os.killpg(process.pid, number)
        printed, _ = process.communicate(timeout=30)
        assert process.returncode == 128 + number, printed
        assert "the same command goes on from here" in printed and "Traceback" not in printed
        assert not live_processes(process.pid)
        assert not [file for file in out.rglob(".*") if file.is_file()]
    assert start(out, **options).wait() == 0
    whole = tmp_path / "whole" / "out"
    generate({**OPTIONS, **options, "out": whole})
    assert tree(out) == tree(whole)


def test_a_worker_that_is_killed_ends_the_run_with_advice(tmp_path):
    process = start(tmp_path)
    while process.poll() is None and not finished(tmp_path):
        time.sleep(0.01)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    worker = next(pid for pid in workers if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text())
    os.kill(int(worker), signal.SIGKILL)
    printed, _ = process.communicate(timeout=30)
    assert (process.returncode, "use fewer workers; the run resumes" in printed) == (2, True), printed
    assert not live_processes(process.pid)
    assert start(tmp_path).wait() == 0


def test_ctrl_c_ends_the_wait_for_a_server_that_is_away(tmp_path):
    process = start(tmp_path, annotator="openai_compatible", model="m", base_url="http://127.0.0.1:9/v1")
    waiting = next(line for line in process.stdout if "(4 of 8)" in line)  # several seconds
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert (process.returncode, "the same command goes on" in printed) == (130, True), waiting + printed


@contextmanager
def small_disk(folder, megabytes):
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system of limited size needs the right to mount one (root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_with_its_reason_and_resumes(tmp_path):
    with small_disk(tmp_path / "disk", 2) as disk:
        out = disk / "out"
        process = start(out)
        printed, _ = process.communicate()
        assert process.returncode == 2, printed
        assert "No space left on device" in printed and "the same command goes on" in printed
        assert "Traceback" not in printed
        assert 0 < finished(out) < IMAGES
        subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
        process = start(out)
        printed, _ = process.communicate()
        assert process.returncode == 0, printed
        whole = tmp_path / "whole" / "out"
        generate({**OPTIONS, "out": whole})
        assert tree(out) == tree(whole)


REFUSAL = "I'm sorry, but I can't help with identifying what is in this image."
SECRET = "sk-test-5c1e9f0a7b3d-never-to-be-seen"


def knowing_server(known, refused):
    """A chat server that knows the tagged pictures of an earlier run: picture -> list; for some it always refuses."""

    def answer(body):
        url = next(
            part["image_url"]["url"]
            for message in reversed(body["messages"])
            if isinstance(message["content"], list)
            for part in message["content"]
            if part["type"] == "image_url"
        )
        text = known[hashlib.sha256(base64.b64decode(url.partition(",")[2])).hexdigest()]
        return completion(REFUSAL if text in refused else text)

    return answer


def test_a_failing_server_and_a_kill_lose_no_image_and_pay_for_none_twice(tmp_path, monkeypatch):
    images = 500 if SOAK else 60
    options = {"count": images, "recipe": "listing", "formats": [], "workers": 1}
    truth = tmp_path / "truth"
    generate({**OPTIONS, **options, "out": truth})
    known = {
        hashlib.sha256((truth / sample["image"]).read_bytes()).hexdigest(): sample["conversations"][1]["value"]
        for sample in json.loads((truth / "data.json").read_text())
    }
    refused = set(list(known.values())[:: images // 5])
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_LOG", "debug")
    with FaultyProxy(answer=knowing_server(known, refused), plan=some_faults(0.3, seed=1)) as server:
        served = {"annotator": "openai_compatible", "model": "m", "base_url": server.url, "timeout_s": 1}
        served |= {"max_in_flight": 8, "max_retries": 2, "price_per_million_completion": 1000, **options}
        out = tmp_path / "out"
        process = start(out, **served)
        while process.poll() is None and finished(out) < images // 3:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        printed = process.communicate()[0]
        assert process.returncode == -signal.SIGKILL
        process = start(out, **served)
        printed += process.communicate()[0]
        assert process.returncode == 0, printed
        lost_on_the_line = server.counts["cut"] + server.counts["truncated"]
        asked = len(known) + len(refused)  # a refusal is answered by one request to repair it
        under_way = 8  # when the kill came
        assert server.counts["paid"] <= asked + lost_on_the_line + under_way

    usage = json.loads((out / "summary.json").read_text())["usage"]
    assert usage["completion_tokens"] >= 7 * images / 2 and usage["cost"] == usage["completion_tokens"] / 1000
    assert f"{usage['cost']:.2f} USD" in printed
    samples = {sample["id"] for sample in json.loads((out / "data.json").read_text())}
    rejects = {reject["id"]: reject for reject in lines(out / "rejects.jsonl")}
    assert samples | set(rejects) == {f"scene-{k:06d}" for k in range(images)} and not samples & set(rejects)
    assert all(reject["kind"] == "server error" or REFUSAL in reject["answer"] for reject in rejects.values())
    assert any(REFUSAL in reject["answer"] for reject in rejects.values()) and len(samples) > images / 2
    everything = printed.encode() + b"".join(tree(out).values())
    assert SECRET.encode() not in everything and SECRET[:20].encode() not in everything
