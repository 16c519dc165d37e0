"""Readers that make batches out of files, in this process or in worker processes; they start fast, without torch."""
