"""Inspecting what was bought, and judging for others."""
