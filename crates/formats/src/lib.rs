//! Model files: GGUF and Hugging Face folders, read safely and written atomically.
