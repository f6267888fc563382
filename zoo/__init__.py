"""Defences whose robust accuracy is known exactly or within proven bounds."""
