"""Prometheus metrics, one registry a process, named `agorai_<service>_<noun>_<unit>`."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

REGISTRY = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

LATENCY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


def counter(name: str, documentation: str, *labels: str) -> Counter:
    """Make a counter; its name gets `_total`."""
    return Counter(name, documentation, labels, registry=REGISTRY)


def gauge(name: str, documentation: str, *labels: str) -> Gauge:
    """Make a gauge."""
    return Gauge(name, documentation, labels, registry=REGISTRY)


def histogram(
    name: str, documentation: str, *labels: str, buckets: Sequence[float] = LATENCY_BUCKETS
) -> Histogram:
    """Make a histogram, of seconds unless buckets say otherwise."""
    return Histogram(name, documentation, labels, registry=REGISTRY, buckets=buckets)
