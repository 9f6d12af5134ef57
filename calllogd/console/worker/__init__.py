"""Workers: what a ring of the queue sets going."""
