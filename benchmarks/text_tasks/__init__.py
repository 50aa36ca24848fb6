"""One benchmark of the merge methods on models that people use: six small tasks on real text, fully fine-tuned and with LoRA."""
