"""Seeing to it that money in data pools comes to whom it is due."""
