"""Networks, one family a file: classes whose weights carry the names that trained files have."""
