"""What ``scripts/training/train-demo-model`` is made of: the training itself, and measuring the trained model."""
