"""The run folder: what it holds, how it is written so that nothing is lost, and how it is read and checked."""
