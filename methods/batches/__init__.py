"""Training examples that several methods share: crops, labels, augmentation, several views of one frame."""
