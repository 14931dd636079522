"""What can be asked of the engine, its queue, and the care of the cache."""
