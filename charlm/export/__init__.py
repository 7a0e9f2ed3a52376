"""Networks for other runtimes: ONNX, and Hugging Face transformers.

What is mixed with a network stays behind. Nothing of the training text travels but the vocabulary, and no paths.
"""
