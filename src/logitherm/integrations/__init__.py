"""One third party a file, no mathematics: what a framework needs to be told of temperatures."""
