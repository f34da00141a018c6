"""A Ray cluster of two nodes with one processor each, for as long as standard input stays open; prints its address."""

import sys

from ray.cluster_utils import Cluster

nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
nodes.add_node(num_cpus=1)
nodes.wait_for_nodes()
print(nodes.address, flush=True)
sys.stdin.read()
nodes.shutdown()
