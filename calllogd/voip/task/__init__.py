"""Messages of the queue."""
