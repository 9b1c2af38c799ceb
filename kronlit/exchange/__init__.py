"""What a run has learned, in files that others read: plain Transformers, PEFT, and a small folder of kronlit's own."""
