"""What the dashboard tells Prometheus."""

from __future__ import annotations

from agorai_shared import metrics

EVENTS = metrics.counter("agorai_dashboard_events", "Events taken into the read model")
PORTION = metrics.histogram("agorai_dashboard_portion_seconds", "Writing one portion of events")
BEHIND = metrics.gauge("agorai_dashboard_behind_messages", "Messages of the final stream not projected yet")
READERS = metrics.gauge("agorai_dashboard_readers", "Live connections")
