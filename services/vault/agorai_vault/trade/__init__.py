"""Fair sale and swap of models, seen from one party."""
