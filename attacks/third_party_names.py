"""The attacks of other packages that keep to a given eps, by the names those packages give them."""

TORCHATTACKS_LINF = (
    "APGD", "APGDT", "BIM", "DIFGSM", "EOTPGD", "FAB", "FFGSM", "FGSM", "Jitter", "MIFGSM", "NIFGSM", "PGD",
    "PIFGSM", "PIFGSMPP", "RFGSM", "SINIFGSM", "SPSA", "Square", "TIFGSM", "TPGD", "UPGD", "VMIFGSM",
    "VNIFGSM",
)  # fmt: skip
TORCHATTACKS_L2 = ("APGD", "APGDT", "FAB", "PGDL2", "Square")
AUTOATTACK = (
    "standard",
    "plus",
    "rand",
    "apgd-ce",
    "apgd-dlr",
    "apgd-t",
    "fab",
    "fab-t",
    "square",
)
