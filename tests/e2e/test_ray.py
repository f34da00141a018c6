"""engine=ray on a real cluster of two nodes, started here: the same bytes as one process, and errors as they are."""

import pytest

from data_gen.config import plan_run
from data_gen.pipeline import generate
from tests.unit.data_gen.inputs import tree

pytestmark = pytest.mark.e2e
OPTIONS = {"source": "scenes", "count": 40, "size": 160, "recipe": ["listing", "qa"], "untagged": True}


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, log_to_driver=False)
    assert sum(node["Alive"] for node in ray.nodes()) == 2
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def test_two_nodes_write_what_one_process_writes(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # relative paths mean the same on every node
    summary = generate({**OPTIONS, "engine": "ray", "workers": 2, "block_images": 4, "out": "ray/out"})
    assert summary["images"] == 40 and not summary["rejected"]
    generate({**OPTIONS, "out": "one/out"})
    assert tree(tmp_path / "ray" / "out") == tree(tmp_path / "one" / "out")


def test_a_run_is_resumed_by_another_engine(cluster, tmp_path):
    first = generate({**OPTIONS, "limit": 10, "out": tmp_path / "out"})
    assert first["images"] == 10
    generate({**OPTIONS, "engine": "ray", "workers": 2, "out": tmp_path / "out"})
    generate({**OPTIONS, "out": tmp_path / "whole" / "out"})
    assert tree(tmp_path / "out") == tree(tmp_path / "whole" / "out")


def test_a_node_without_the_folder_says_so(cluster, tmp_path):
    run = plan_run({**OPTIONS, "engine": "ray", "out": tmp_path / "absent"})
    with pytest.raises(OSError, match=r"does not see 'absent'.*all nodes share"):
        list(run.engine.entries(run, run.source.refs()))


def test_what_stops_a_stage_comes_out_as_it_was_raised(cluster, tmp_path):
    options = {**OPTIONS, "engine": "ray", "annotator": "openai_compatible", "model": "m", "max_retries": 0}
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9"):  # nothing listens on the discard port
        generate({**options, "base_url": "http://127.0.0.1:9/v1", "out": tmp_path / "out"})
