"""Several runs at once over one frozen model: ordinary fits, whose training passes are computed as one batch."""
