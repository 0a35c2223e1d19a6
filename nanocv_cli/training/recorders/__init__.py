"""Where a training is recorded: DVCLive's files, TensorBoard, MLflow, Weights & Biases, behind one protocol."""
