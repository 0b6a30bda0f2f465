"""The content-addressed store: objects as trees of blocks on disk, served to anyone who verifies."""
