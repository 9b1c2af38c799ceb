"""Parts that have not proved themselves yet. They may change or go."""
