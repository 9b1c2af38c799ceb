"""Trains several runs at once over one frozen model: ordinary fits whose training passes form one batch."""
