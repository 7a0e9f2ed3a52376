"""Text in, numbers out: vocabulary, corpora and batches. Nothing here imports torch."""
