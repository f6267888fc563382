"""Labelled images: named sets, .npz files and folders."""
