"""The temperature of a stream of rows: an online thermometer, its alarm, and the drift check of a calibrator."""
