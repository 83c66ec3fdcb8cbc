"""The trainer: folds outcomes into the arms' statistics, exactly once."""
