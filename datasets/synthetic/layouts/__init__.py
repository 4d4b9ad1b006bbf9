"""One module per published layout: each writes a world as the files of one data set."""
