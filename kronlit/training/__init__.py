"""What a run needs beside its module: checkpoints, folder, summary, metrics, predictions, stopping on a signal."""
