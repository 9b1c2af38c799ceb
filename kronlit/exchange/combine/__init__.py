"""Several adapters of one model added up in the space of its weights."""
