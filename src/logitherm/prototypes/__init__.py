"""The temperature of data: classifiers whose temperature follows from the spread of the data itself."""
