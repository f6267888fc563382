"""The corruptions of CIFAR-10-C (Hendrycks and Dietterich, arXiv 1903.12261) as functions of whole batches.

Every function takes float images [n, H, W, C] in [0, 1], the constants of one severity and, where it is
random, one generator an image; it returns uint8 images. numpy, scipy and Pillow alone.
"""
