"""Third-party attack packages, one file per package; a package is imported only when its attack runs."""
