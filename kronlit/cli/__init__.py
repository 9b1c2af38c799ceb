"""The commands, one file each. Their help imports no torch."""
