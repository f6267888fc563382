"""``csrobust compact``: finished runs in few files."""

from robustbench_coded.cli.common_options import RunFolders
from robustbench_coded.reports.text.escape import one_line


def compact_command(
    runs: RunFolders,
) -> int:
    """Pack the files of a finished run into two.

    Outcomes go into one file, timings into another. The run can still be extended.
    """
    from robustbench_coded.runs.folder import RunFolder, read_manifest
    from robustbench_coded.runs.packed import pack

    for path in runs:
        read_manifest(path)
        with RunFolder(path) as folder:
            print(one_line(f"{path}: {pack(folder.path)} units in {path / 'outcomes' / 'packed.parquet'}"))
    return 0
