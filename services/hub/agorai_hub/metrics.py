"""The hub's metrics; each has the chain id as a label."""

from __future__ import annotations

from agorai_shared.errors import AgoraiError
from agorai_shared.metrics import counter, gauge, histogram

HEAD_BLOCK = gauge("agorai_hub_head_block", "Newest published block", "chain")
FINAL_BLOCK = gauge("agorai_hub_final_block", "Newest block published as final", "chain")
NODE_HEAD_BLOCK = gauge("agorai_hub_node_head_block", "Newest block that the chain's node told of", "chain")
LAG_BLOCKS = gauge("agorai_hub_lag_blocks", "Blocks that the node has and the stream has not", "chain")
LAG = gauge("agorai_hub_lag_seconds", "Age of the newest block when it was published", "chain")
PUBLISH = histogram("agorai_hub_publish_seconds", "From hearing of a block to its being on the bus", "chain")
EVENTS = counter("agorai_hub_events", "Events published", "chain", "phase")
REORGS = counter("agorai_hub_reorgs", "Reorgs followed", "chain")
REORG_DEPTH = gauge("agorai_hub_reorg_depth_blocks", "Blocks retracted by the latest reorg", "chain")
UNDECODED = counter("agorai_hub_undecoded_logs", "Logs that no ABI explained", "chain", "contract")
STANDBY = gauge("agorai_hub_standby", "1 while another hub writes", "chain")
STOPPED = gauge("agorai_hub_stopped", "1 after a reorg past finality", "chain")
RPC = histogram("agorai_hub_rpc_seconds", "Requests to a chain node", "endpoint", "method")
RPC_ERRORS = counter("agorai_hub_rpc_errors", "Requests to a chain node that failed", "endpoint", "method")
ENDPOINT_HEAD = gauge("agorai_hub_endpoint_head_block", "Newest block of one of several nodes", "endpoint")


def observe_rpc(endpoint: str, method: str, seconds: float, error: AgoraiError | None) -> None:
    """Count one request; an `Rpc` observer."""
    RPC.labels(endpoint, method).observe(seconds)
    if error is not None:
        RPC_ERRORS.labels(endpoint, method).inc()
