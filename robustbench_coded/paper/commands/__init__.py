"""Commands that train and repeat the paper's studies."""
