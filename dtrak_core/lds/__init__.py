"""The linear datamodeling score: subsets, their models' losses, predictions, the table of methods."""
