"""The chain listener and notification hub."""
