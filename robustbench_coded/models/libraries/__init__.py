"""Architectures that other libraries define: ``timm:``, ``torchvision:``, ``robustbench:``, ``hf:``."""
