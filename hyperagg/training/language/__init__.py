"""Language models from texts to perplexity: tokenizer, packed rows, the Trainer, evaluation."""
