"""How good detections are: reset, process, evaluate."""
