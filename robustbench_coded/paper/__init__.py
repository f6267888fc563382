"""The paper's trainings, studies and figures (arXiv 2510.00253), and evaluation under covariate shift."""
