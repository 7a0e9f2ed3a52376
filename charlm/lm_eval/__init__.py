"""The model `charlm` of EleutherAI's lm-evaluation-harness, `charlm.lm_eval.model`, and its command line."""
