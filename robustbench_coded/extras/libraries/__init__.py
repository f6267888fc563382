"""Networks as timm, torchvision, transformers and RobustBench define them."""
