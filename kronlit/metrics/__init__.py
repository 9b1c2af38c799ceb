"""From a task to what scores it."""
