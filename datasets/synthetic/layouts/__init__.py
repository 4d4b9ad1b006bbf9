"""One writer per published layout: each puts a directed world into the files of one data set."""
