"""float32 graphs in float16 or bfloat16."""
