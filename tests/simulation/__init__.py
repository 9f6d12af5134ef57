"""The use cases against a world in memory: one seed, one story, always the same."""
