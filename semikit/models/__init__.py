"""Networks: encoders from timm, decoders, weights in. Plain torch; knows nothing of methods or tasks."""
