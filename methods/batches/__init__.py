"""What several methods make batches of: crops, their labels, augmentation, several views of one moment."""
