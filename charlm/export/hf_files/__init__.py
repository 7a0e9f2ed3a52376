"""The code that travels in a folder for Hugging Face transformers; nothing in it needs charlm."""
