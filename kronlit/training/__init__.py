"""What a run needs besides its module: checkpoints, folder, summary, metrics, predictions, stopping on a signal."""
