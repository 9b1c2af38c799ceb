"""What has not proved itself yet: it may change or go."""
